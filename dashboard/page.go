package dashboard

import (
	"embed"
	"net/http"
)

//go:embed page
var assets embed.FS

// contentPolicy lets the page load what is beside it and nothing else, and keeps text from ever
// becoming markup.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// files are what the page consists of, by path.
var files = map[string]string{
	"/":                   "page/index.html",
	"/dashboard/page.css": "page/page.css",
	"/dashboard/page.js":  "page/page.js",
	"/dashboard/icon.svg": "page/icon.svg",
}

// Register serves the page and the feed. The page says nothing by itself, so everyone gets it; who
// gets the feed is for guard to say.
func (f *Feed) Register(mux *http.ServeMux, guard func(http.Handler) http.Handler) {
	for path, name := range files {
		pattern := "GET " + path
		if path == "/" {
			pattern += "{$}"
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Security-Policy", contentPolicy)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Referrer-Policy", "no-referrer")
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
			h.Set("Cross-Origin-Resource-Policy", "same-origin")
			h.Set("Cache-Control", "no-cache")
			http.ServeFileFS(w, r, assets, name)
		})
	}
	mux.Handle("GET "+FeedPath, guard(f))
}

// FeedPath is where the feed is.
const FeedPath = "/dashboard/feed"
