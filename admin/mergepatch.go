package admin

import (
	"github.com/go-json-experiment/json"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"millrace/config"
)

// patched is a resource after a JSON merge patch on the form in which it is shown. Secrets that the
// patch does not touch are then "[redacted]", which stands for the stored ones.
func patched[M proto.Message](stored M, patch *structpb.Struct) (M, error) {
	next := blank(stored)
	shown, err := config.JSON(show(stored))
	if err != nil {
		return next, err
	}
	var tree any
	if err := json.Unmarshal(shown, &tree); err != nil {
		return next, err
	}
	data, err := json.Marshal(mergePatch(tree, patch.AsMap()))
	if err != nil {
		return next, badRequest.because("%v", err) // a number that JSON does not have, over gRPC
	}
	return next, decoded(config.DecodeJSON(data, next))
}

// mergePatch is RFC 7396.
func mergePatch(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, change := range changes {
		if change == nil {
			delete(object, name)
		} else {
			object[name] = mergePatch(object[name], change)
		}
	}
	return object
}
