package main

// startAdmin serves the REST API, where there is one.
func (s *sidecar) startAdmin(flags sidecarFlags, dir string) error { return nil }

func (s *sidecar) stopAdmin() {}
