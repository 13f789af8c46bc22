// Command bifrost is a thin HTTP front of Bifrost's core library: chat completions, whole and
// streamed. It stands in for bifrost-http, whose module the Go proxy does not have, and has none of
// its governance, logs, metrics and store: what it costs is the least that Bifrost can.
//
// It is a module of its own, so that what Bifrost depends on does not become the gateway's. Models
// are named as Bifrost names them: openai/gpt-4o-mini, anthropic/claude-sonnet-4-5.
package main

import (
	"bufio"
	"context"
	"log"
	"os"

	"github.com/bytedance/sonic"
	bifrost "github.com/maximhq/bifrost/core"
	"github.com/maximhq/bifrost/core/providers/openai"
	"github.com/maximhq/bifrost/core/schemas"
	"github.com/valyala/fasthttp"
)

// workers of Bifrost for each provider, and objects in its pools.
const workers = 1000

// account is Bifrost's configuration: where the provider is.
type account struct{ provider string }

func (account) GetConfiguredProviders() ([]schemas.ModelProvider, error) {
	return []schemas.ModelProvider{schemas.OpenAI, schemas.Anthropic}, nil
}

func (account) GetKeysForProvider(_ context.Context, p schemas.ModelProvider) ([]schemas.Key, error) {
	return []schemas.Key{{ID: "k-" + string(p), Name: "k-" + string(p), Value: *schemas.NewEnvVar("sk-mock"), Models: schemas.WhiteList{"*"}, Weight: 1}}, nil
}

func (a account) GetConfigForProvider(schemas.ModelProvider) (*schemas.ProviderConfig, error) {
	c := &schemas.ProviderConfig{
		NetworkConfig:            schemas.NetworkConfig{BaseURL: a.provider, DefaultRequestTimeoutInSeconds: 60, AllowPrivateNetwork: true},
		ConcurrencyAndBufferSize: schemas.ConcurrencyAndBufferSize{Concurrency: workers, BufferSize: 5 * workers},
	}
	c.CheckAndSetDefaults()
	return c, nil
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: bifrost ADDRESS PROVIDER-URL")
	}
	bf, err := bifrost.Init(context.Background(), schemas.BifrostConfig{
		Account: account{os.Args[2]}, InitialPoolSize: workers, Logger: bifrost.NewDefaultLogger(schemas.LogLevelWarn),
	})
	if err != nil {
		log.Fatal(err)
	}
	fail := func(ctx *fasthttp.RequestCtx, e *schemas.BifrostError) {
		st := 502
		if e.StatusCode != nil {
			st = *e.StatusCode
		}
		b, _ := sonic.Marshal(e)
		ctx.SetStatusCode(st)
		ctx.SetContentType("application/json")
		ctx.SetBody(b)
	}
	h := func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) != "/v1/chat/completions" {
			ctx.SetBodyString("ok")
			return
		}
		var req openai.OpenAIChatRequest
		if err := sonic.Unmarshal(ctx.PostBody(), &req); err != nil {
			ctx.Error(err.Error(), 400)
			return
		}
		bctx, cancel := schemas.NewBifrostContextWithCancel(context.Background())
		request := req.ToBifrostChatRequest(bctx)
		if req.Stream == nil || !*req.Stream {
			defer cancel()
			resp, e := bf.ChatCompletionRequest(bctx, request)
			if e != nil {
				fail(ctx, e)
				return
			}
			b, err := sonic.Marshal(resp)
			if err != nil {
				ctx.Error(err.Error(), 500)
				return
			}
			ctx.SetContentType("application/json")
			ctx.SetBody(b)
			return
		}
		ch, e := bf.ChatCompletionStreamRequest(bctx, request)
		if e != nil {
			cancel()
			fail(ctx, e)
			return
		}
		ctx.SetContentType("text/event-stream")
		ctx.Response.Header.Set("Cache-Control", "no-cache")
		ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
			defer cancel()
			for chunk := range ch {
				b, err := sonic.Marshal(chunk)
				if err != nil {
					return
				}
				_, _ = w.WriteString("data: ")
				_, _ = w.Write(b)
				_, _ = w.WriteString("\n\n")
				if w.Flush() != nil {
					return
				}
			}
			_, _ = w.WriteString("data: [DONE]\n\n")
			_ = w.Flush()
		})
	}
	log.Fatal((&fasthttp.Server{Handler: h}).ListenAndServe(os.Args[1]))
}
