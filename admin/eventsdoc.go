package admin

// eventsDoc is what the OpenAPI document says of events, which are no method of the service.
var eventsDoc = object{
	"post": object{
		"operationId": "TakeEvents",
		"description": "Keeps events of other gateways. Once it is answered they are on disk; one whose source and id are known already is not taken again.",
		"requestBody": object{"required": true, "content": object{
			cloudEventsBatch:   eventsSchema("array", "CloudEvents 1.0 of the type dev.millrace.request."),
			cloudEvent:         eventsSchema("object", "One of them."),
			"application/json": eventsSchema("array", "Events as files have them, one a request."),
		}},
		"responses": object{
			"202": object{"description": "They are kept.", "content": object{"application/json": object{"schema": object{
				"type": "object", "properties": object{"taken": object{"type": "integer"}, "known": object{"type": "integer"}},
			}}}},
			"default": object{"$ref": "#/components/responses/Problem"},
		},
	},
	"get": object{
		"operationId": "ListEvents",
		"description": "Events that are kept, the earliest first. Without since and after it is the last of them.",
		"parameters": []any{
			eventsParameter("since", "string", "Only those of requests that began then or later: a time, or how long ago it was (15m)."),
			eventsParameter("until", "string", "Only those of requests that began before."),
			eventsParameter("status", "array", "429, 5xx, or none where the client left before there was one."),
			eventsParameter("gateway", "array", "The gateway's name."),
			eventsParameter("service", "array", "The service's name."),
			eventsParameter("target", "array", "Who answered."),
			eventsParameter("key", "array", "The key's name."),
			eventsParameter("model", "array", "The model that the client asked for."),
			eventsParameter("refused", "boolean", "Those that a sink has refused for good, in place of the others."),
			eventsParameter("after", "string", "What the last page had as next."),
			eventsParameter("limit", "integer", "1 to 1000; 100 when it is left out."),
		},
		"responses": object{
			"200": object{"description": "A page.", "content": object{"application/json": object{"schema": object{
				"type": "object",
				"properties": object{
					"events":   object{"type": "array", "items": object{"type": "object"}},
					"next":     object{"type": "string", "description": "To go on after this page, now or later."},
					"more":     object{"type": "boolean", "description": "There is more already; the page may be empty all the same."},
					"refusals": object{"type": "array", "items": object{"type": "object"}, "description": "Of each event, the sink and the reason, where refused was asked for."},
				},
			}}}},
			"default": object{"$ref": "#/components/responses/Problem"},
		},
	},
}

func eventsSchema(kind, description string) object {
	schema := object{"type": kind, "description": description}
	if kind == "array" {
		schema["items"] = object{"type": "object"}
	}
	return object{"schema": schema}
}

func eventsParameter(name, kind, description string) object {
	schema := object{"type": kind}
	if kind == "array" {
		schema["items"] = object{"type": "string"}
	}
	return object{"name": name, "in": "query", "description": description, "schema": schema}
}
