package store

import "github.com/nats-io/nats.go/jetstream"

// Where the State is: nats kv get millrace-config state.
const (
	bucket     = "millrace-config"
	key        = "state"
	streamName = "KV_" + bucket
	subject    = "$KV." + bucket + "." + key
	changed    = bucket + ".changed" // gets a message without content for every version stored; an account needs it beside JetStream
)

// headerBytes is room for what NATS adds to a value: the expected revision.
const headerBytes = 256

// shape fills in what makes a stream our bucket and leaves the rest (replicas, placement) alone.
func shape(cfg jetstream.StreamConfig) jetstream.StreamConfig {
	cfg.Subjects = []string{"$KV." + bucket + ".>"}
	cfg.MaxMsgsPerSubject = History
	cfg.Discard = jetstream.DiscardNew
	cfg.DenyDelete = true
	cfg.AllowRollup = true
	cfg.RePublish = &jetstream.RePublish{Source: subject, Destination: changed, HeadersOnly: true}
	// Direct reads are answered by any replica, and one that lags would show operators the version
	// before their own write. Without, the leader answers, at twice the cost.
	cfg.AllowDirect = cfg.Replicas == 1
	return cfg
}
