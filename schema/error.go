package schema

// ErrorForm is how a schema says that something failed.
type ErrorForm struct {
	// Body is JSON, with strings that stand for what is said: $message, $type and $code.
	Body string
	// Types are the schema's words for the classes of errors, which are llm.ErrorType's.
	Types map[string]string
	// Other is its word for any other class.
	Other string
}

// What stands in ErrorForm.Body.
const (
	Message   = "$message"
	ErrorType = "$type"
	ErrorCode = "$code" // null where there is none
)

// Type is the schema's word for a class.
func (f ErrorForm) Type(class string) string {
	if word, ok := f.Types[class]; ok {
		return word
	}
	return f.Other
}
