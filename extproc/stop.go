package extproc

import "millrace/extproc/llm"

// Stop ends what is still under way, each in its client's schema: a stream that its client has a
// part of with an error event, everything else with a 503, which is also what requests get that
// come later. It does not wait; Busy tells when it is done. It may be called more than once.
func (s *Server) Stop() { s.stop() }

// stopped tells whether Stop was called.
func (s *Server) stopped() bool { return s.stopping.Err() != nil }

func shuttingDown() *llm.Error { return llm.Errorf(llm.ErrUnavailable, "the gateway is shutting down") }
