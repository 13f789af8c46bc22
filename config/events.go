package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	millracev1 "millrace/proto/millrace/v1"
)

// Events is where the record of each request goes.
type Events struct {
	Sinks          []Sink
	SpoolBytes     int64
	RefuseWhenFull bool
	Retention      time.Duration // 0: nothing is kept that all sinks have
}

// Any tells whether anybody gets events.
func (e *Events) Any() bool { return len(e.Sinks) > 0 || e.Retention > 0 }

// Spooled tells whether events are to wait on disk, or be kept there.
func (e *Events) Spooled() bool {
	for i := range e.Sinks {
		if e.Sinks[i].Remote() {
			return true
		}
	}
	return e.Retention > 0
}

// Sink is one place that events go to.
type Sink struct {
	Field string // of the document
	Name  string
	Type  string
	Only  SinkFilter

	CloudEvents bool          // file and stdout
	Path        string        // file
	MaxBytes    int64         // file; 0: no bound
	MaxAge      time.Duration // file; 0: no bound
	Keep        int           // file

	URL                       string // http; nats, "": the engine
	Token                     string // http, secret; "": none
	Timeout                   time.Duration
	Gzip                      bool
	CAFile, CertFile, KeyFile string
	Subject, Credentials      string // nats
}

// Remote tells whether the sink can be away.
func (s *Sink) Remote() bool { return s.Type == sinkHTTP || s.Type == sinkNATS }

// SinkFilter chooses events; a list that is empty chooses all.
type SinkFilter struct{ Status, Gateways, Services, Targets, Keys, Models []string }

// The types of sinks.
const (
	sinkHTTP = "http"
	sinkFile = "file"
	sinkNATS = "nats"
)

// sinkFields are the fields that only sinks of some types have.
var sinkFields = map[protoreflect.Name]string{
	"format": "file stdout", "path": "file", "max_size": "file", "max_age": "file", "keep": "file",
	"url": "http nats", "token": "http", "timeout": "http", "compression": "http",
	"ca_file": "http nats", "cert_file": "http nats", "key_file": "http nats",
	"subject": "nats", "credentials_file": "nats",
}

const (
	eventsPath    = "/v1/events"
	refuseIfFull  = "refuse-requests"
	formatWrapped = "cloudevents"
)

func setEventDefaults(e *millracev1.Events) {
	spooled := e.GetRetention() != nil
	for _, s := range e.GetSinks() {
		switch s.Type {
		case sinkHTTP:
			spooled = true
			setDuration(&s.Timeout, 10*time.Second)
			setIfZero(&s.Compression, "gzip")
			if u, err := url.Parse(s.Url); err == nil && strings.Trim(u.Path, "/") == "" && u.Host != "" {
				u.Path = eventsPath
				s.Url = u.String()
			}
		case sinkNATS:
			spooled = true
		case sinkFile:
			if s.MaxSize != nil || s.MaxAge != nil {
				setIfZero(&s.Keep, 5)
			}
		}
	}
	if spooled {
		setIfZero(&ensure(&ensure(&e.Spool).MaxBytes).Bytes, 1<<30)
		setIfZero(&e.Spool.OnFull, "drop-oldest")
	}
}

// events checks where events go. main is the gateway of the file, which says where the process
// listens.
func (v *validation) events(main *millracev1.Gateway, e *millracev1.Events) {
	names, files := map[string]bool{}, map[string]string{}
	if e.GetFile() != "" {
		files[e.File] = "events.file"
	}
	for i, s := range e.GetSinks() {
		path := fmt.Sprintf("events.sinks[%d]", i)
		if names[s.Name] {
			v.errorf(path+".name", "%s is there twice", quoted(s.Name))
		}
		names[s.Name] = true
		s.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			if types, ok := sinkFields[f.Name()]; ok && !strings.Contains(types, s.Type) {
				v.errorf(path+"."+string(f.Name()), "has no meaning for the type %s", s.Type)
			}
			return true
		})
		if (s.CertFile == "") != (s.KeyFile == "") {
			v.errorf(path+".cert_file", "cert_file and key_file belong together")
		}
		switch s.Type {
		case sinkFile:
			if s.Path == "" {
				v.errorf(path+".path", "needed: it says where the file is")
			} else if other := files[s.Path]; other != "" {
				v.errorf(path+".path", "is that of %s", other)
			}
			files[s.Path] = path
			if s.Keep > 0 && s.MaxSize == nil && s.MaxAge == nil {
				v.errorf(path+".keep", "has no meaning without max_size or max_age")
			}
		case sinkHTTP:
			v.httpSink(path, main, s)
		case sinkNATS:
			v.natsSink(path, s)
		}
	}
	const least = 8 << 20 // several messages, and the files around them
	if m := e.GetSpool().GetMaxBytes(); m != nil && m.Bytes < least {
		v.errorf("events.spool.max_bytes", "want at least 8MiB")
	}
}

func (v *validation) httpSink(path string, main *millracev1.Gateway, s *millracev1.EventSink) {
	u, err := url.Parse(s.Url)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		v.errorf(path+".url", "want http://… or https://…")
		return
	case u.User != nil:
		v.errorf(path+".url", "it has a user: put the secret into token")
	case u.Scheme == "http" && (s.CaFile != "" || s.CertFile != ""):
		v.errorf(path+".url", "ca_file, cert_file and key_file want https://…")
	}
	v.secret(path+".token", s.Token)
	port := uint64(443)
	if u.Scheme == "http" {
		port = 80
	}
	if text := u.Port(); text != "" {
		port, _ = strconv.ParseUint(text, 10, 16) // url.Parse takes digits alone
	}
	if why := (guard{own: ownAddresses(main), local: localAddresses()}).why(u.Hostname(), uint32(port)); why != "" {
		v.errorf(path+".url", "%s is %s", u.Hostname(), why)
	}
}

func (v *validation) natsSink(path string, s *millracev1.EventSink) {
	for server := range strings.SplitSeq(s.Url, ",") {
		if u, err := url.Parse(strings.TrimSpace(server)); s.Url != "" && (err != nil || u.Host == "") {
			v.errorf(path+".url", "want nats://host:4222, or several with commas between")
		}
	}
	switch {
	case s.Subject == "":
		v.errorf(path+".subject", "needed: it says where events are published")
	case strings.ContainsAny(s.Subject, " \t\r\n*>") || strings.HasPrefix(s.Subject, ".") || strings.HasSuffix(s.Subject, ".") || strings.Contains(s.Subject, ".."):
		v.errorf(path+".subject", "want words with dots between them, without * and >")
	case strings.HasPrefix(s.Subject, "$") || strings.HasPrefix(s.Subject, "millrace"):
		v.errorf(path+".subject", "$… and millrace… are in use already")
	}
	if s.Url == "" && (s.CaFile != "" || s.CertFile != "" || s.CredentialsFile != "") {
		v.errorf(path+".url", "needed: the store's connection is as --store says")
	}
}

// why says what a host is that no service has, "" for any other.
func (g guard) why(host string, port uint32) string {
	if usual := usualForm(host); usual != "" {
		return "an unusual way to write " + usual
	}
	name, ip := nameAndAddress(host)
	if why := metadataNames[name]; why != "" {
		return why
	}
	if ip.IsValid() {
		if err := RefusedAddress(netip.AddrPortFrom(ip, uint16(port))); err != nil {
			return special(ip)
		}
	}
	return g.ownReason(name, ip, port)
}

func (r *resolver) events(e *millracev1.Events) Events {
	resolved := Events{
		SpoolBytes:     int64(e.GetSpool().GetMaxBytes().GetBytes()),
		RefuseWhenFull: e.GetSpool().GetOnFull() == refuseIfFull,
		Retention:      e.GetRetention().AsDuration(),
	}
	if e.GetFile() != "" {
		resolved.Sinks = append(resolved.Sinks, Sink{Field: "events.file", Name: "file", Type: sinkFile, Path: e.File})
	}
	for i, s := range e.GetSinks() {
		field := fmt.Sprintf("events.sinks[%d]", i)
		sink := Sink{
			Field: field, Name: s.Name, Type: s.Type, CloudEvents: s.Format == formatWrapped,
			Path: s.Path, MaxBytes: int64(s.MaxSize.GetBytes()), MaxAge: s.MaxAge.AsDuration(), Keep: int(s.Keep),
			URL: s.Url, Timeout: s.Timeout.AsDuration(), Gzip: s.Compression == "gzip",
			CAFile: s.CaFile, CertFile: s.CertFile, KeyFile: s.KeyFile,
			Subject: s.Subject, Credentials: s.CredentialsFile,
		}
		if f := s.Only; f != nil {
			sink.Only = SinkFilter{Status: f.Status, Gateways: f.Gateways, Services: f.Services, Targets: f.Targets, Keys: f.Keys, Models: f.Models}
		}
		if s.Token != nil {
			sink.Token = r.secret(field+".token", s.Token)
		}
		resolved.Sinks = append(resolved.Sinks, sink)
	}
	return resolved
}
