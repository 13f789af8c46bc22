package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/golden"
)

// dump writes a value of the llm vocabulary for people to read: fields that are set, a line each.
func dump(v any) []byte {
	var b strings.Builder
	dumpValue(&b, reflect.ValueOf(v), "")
	return []byte(b.String())
}

func dumpValue(b *strings.Builder, v reflect.Value, indent string) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if raw, ok := v.Interface().(json.RawMessage); ok {
		fmt.Fprintf(b, "`%s`\n", raw)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		fmt.Fprintf(b, "%s\n", v.Type().Name())
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				fmt.Fprintf(b, "%s  %s: ", indent, v.Type().Field(i).Name)
				dumpValue(b, f, indent+"  ")
			}
		}
	case reflect.Slice:
		fmt.Fprintf(b, "\n")
		for i := range v.Len() {
			fmt.Fprintf(b, "%s  - ", indent)
			dumpValue(b, v.Index(i), indent+"  ")
		}
	case reflect.String:
		fmt.Fprintf(b, "%q\n", v.String())
	default:
		fmt.Fprintf(b, "%v\n", v.Interface())
	}
}

// pretty indents JSON and changes nothing else in it.
func pretty(t *testing.T, body []byte) []byte {
	t.Helper()
	v := jsontext.Value(body).Clone()
	if err := v.Indent(jsontext.PreserveRawStrings(true), jsontext.WithIndent("  ")); err != nil {
		t.Fatalf("not strict JSON: %v\n%s", err, body)
	}
	return v
}

// failed states an error as the case's output, with the body its client would get.
func failed(c *golden.Case, err error) {
	c.T.Helper()
	var e *llm.Error
	if !errors.As(err, &e) {
		c.T.Fatalf("%v is no *llm.Error", err)
	}
	c.Output("want-error", dump(*e))
	c.Output("want-error.json", Chat{}.EncodeError(e))
}

func outputCall(c *golden.Case, call llm.Call) {
	c.T.Helper()
	if call.Path != "/chat/completions" || len(call.Headers) != 0 {
		c.T.Fatalf("call to %s with headers %v", call.Path, call.Headers)
	}
	if len(call.Dropped) > 0 {
		c.Output("want-dropped", []byte(strings.Join(call.Dropped, "\n")))
	}
	var renamed []string
	for _, name := range slices.Sorted(maps.Keys(llm.RenamesOf(call.Answer))) {
		renamed = append(renamed, llm.RenamesOf(call.Answer)[name]+" is "+name)
	}
	if renamed != nil {
		c.Output("want-renamed", []byte(strings.Join(renamed, "\n")))
	}
}
