package store

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	millracev1 "millrace/proto/millrace/v1"
)

func TestMigrate(t *testing.T) {
	rename := func(from, to string) func(*millracev1.State) {
		return func(s *millracev1.State) { s.Cause = strings.ReplaceAll(s.Cause, from, to) }
	}
	steps := []func(*millracev1.State){rename("zero", "one"), rename("one", "two"), rename("two", "three")}
	for schema, was := range []string{"zero", "one", "two", "three"} {
		state := &millracev1.State{SchemaVersion: uint32(schema), Cause: was}
		migrate(state, steps)
		if state.SchemaVersion != 3 || state.Cause != "three" {
			t.Errorf("from schema %d: got %v", schema, state)
		}
	}
}

func TestSchemaVersions(t *testing.T) {
	of := func(schema uint32) []byte {
		payload, err := proto.Marshal(&millracev1.State{SchemaVersion: schema, Cause: "test"})
		if err != nil {
			t.Fatal(err)
		}
		value, err := seal(stateMagic, payload)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	want := &millracev1.State{SchemaVersion: SchemaVersion, Cause: "test"}
	for schema := range SchemaVersion + 1 {
		got, err := decodeState(of(schema))
		if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
			t.Errorf("schema %d: %v (-want +got)\n%s", schema, err, diff)
		}
	}
	_, err := decodeState(of(7))
	if want := "written by a newer Millrace (schema 7, this one knows 1): upgrade this one"; !errors.Is(err, ErrNewer) || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
	// What a newer one writes need not even parse here.
	value, err := seal(stateMagic, []byte("\x08\x07\x12\x7f?"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeState(value); !errors.Is(err, ErrNewer) {
		t.Errorf("got %v, want ErrNewer", err)
	}
}

func TestDescribe(t *testing.T) {
	value, err := encodeState(&millracev1.State{Documents: stateOf("a", "b").Documents, Cause: "test", Time: &timestamppb.Timestamp{Seconds: 9}})
	if err != nil {
		t.Fatal(err)
	}
	want := &millracev1.State{SchemaVersion: SchemaVersion, Cause: "test", Time: &timestamppb.Timestamp{Seconds: 9}}
	got, err := describe(value)
	if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

// What a newer Millrace of the same schema has added is kept, and the caller's state is left as it
// is.
func TestEncodeKeepsUnknownFields(t *testing.T) {
	state := stateOf("a")
	state.SchemaVersion = 0
	state.ProtoReflect().SetUnknown([]byte("\xfa\x3f\x03new"))
	before := proto.Clone(state)
	value, err := encodeState(state)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(before, state) {
		t.Errorf("changed by encoding: %v", state)
	}
	got, err := decodeState(value)
	state.SchemaVersion = SchemaVersion
	if err != nil || !proto.Equal(state, got) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	whole, err := encodeState(stateOf("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	newForm := bytes.Clone(whole)
	newForm[3]++
	if _, err := decodeState(newForm); !errors.Is(err, ErrNewer) {
		t.Errorf("newer form: got %v", err)
	}
	for i := range whole {
		if _, err := decodeState(whole[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("first %d of %d bytes: got %v", i, len(whole), err)
		}
		for bit := range 8 {
			flipped := bytes.Clone(whole)
			flipped[i] ^= 1 << bit
			if _, err := decodeState(flipped); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Errorf("bit %d of byte %d: got %v", bit, i, err)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	whole, err := encodeState(stateOf("a", "b"))
	if err != nil {
		f.Fatal(err)
	}
	applied, err := encodeApplied(Applied{Revision: 300, State: stateOf("a"), File: []byte("x")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(applied)
	for _, payload := range []string{"", "\x80", "\x05\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x01\x09ab"} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		known := func(err error) {
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Errorf("got %v", err)
			}
		}
		_, err := decodeState(data)
		known(err)
		_, err = describe(data)
		known(err)
		_, err = decodeApplied(data)
		known(err)
		// And as a payload, which the checksum would keep from the parser.
		for _, magic := range []string{stateMagic, appliedMagic} {
			sealed, err := seal(magic, data)
			if err != nil {
				t.Fatal(err)
			}
			if magic == stateMagic {
				_, err = decodeState(sealed)
				known(err)
				_, err = describe(sealed)
			} else {
				_, err = decodeApplied(sealed)
			}
			known(err)
		}
	})
}
