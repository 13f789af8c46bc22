// Package envoy is what the two halves of Millrace and Envoy itself must agree on: the names of
// headers, metadata and clusters, the bootstrap that a stock Envoy starts with, the pinned version,
// and the running of the binary.
//
// It finds or fetches that binary and supervises it as a child: ready, drained, stopped, never
// outliving its parent. It builds no resources (that is xds) and answers no Envoy call (that is
// extproc and xds).
package envoy
