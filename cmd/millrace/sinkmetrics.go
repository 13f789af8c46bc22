package main

import "github.com/prometheus/client_golang/prometheus"

// eventSinks are metrics with a row for each sink that the spool stands before.
type eventSinks struct{ events *destinations }

var (
	sinkOKDesc      = prometheus.NewDesc("millrace_event_sink_ok", "0 while the sink does not get its events; they wait on disk.", []string{"sink"}, nil)
	sinkSentDesc    = prometheus.NewDesc("millrace_event_sink_sent_total", "Events that the sink has taken; one may be counted twice.", []string{"sink"}, nil)
	sinkRefusedDesc = prometheus.NewDesc("millrace_event_sink_refused_total", "Events that the sink refuses for good; they are in the stream of dead events.", []string{"sink"}, nil)
	sinkLostDesc    = prometheus.NewDesc("millrace_event_sink_lost_total", "Events that the sink will never get: there was no more room on disk.", []string{"sink"}, nil)
	spoolBytesDesc  = prometheus.NewDesc("millrace_events_spool_bytes", "What events take on disk, as of at most ten seconds ago.", nil, nil)
)

// Describe implements prometheus.Collector.
func (e eventSinks) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sinkOKDesc, sinkSentDesc, sinkRefusedDesc, sinkLostDesc, spoolBytesDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (e eventSinks) Collect(out chan<- prometheus.Metric) {
	s := e.events.present()
	if s == nil {
		return
	}
	out <- prometheus.MustNewConstMetric(spoolBytesDesc, prometheus.GaugeValue, float64(s.Bytes()))
	for _, k := range s.States() {
		out <- prometheus.MustNewConstMetric(sinkOKDesc, prometheus.GaugeValue, number(k.Err == nil), k.Name)
		out <- prometheus.MustNewConstMetric(sinkSentDesc, prometheus.CounterValue, float64(k.Sent), k.Name)
		out <- prometheus.MustNewConstMetric(sinkRefusedDesc, prometheus.CounterValue, float64(k.Refused), k.Name)
		out <- prometheus.MustNewConstMetric(sinkLostDesc, prometheus.CounterValue, float64(k.Lost), k.Name)
	}
}
