include tools.mk

.PHONY: generate
generate: $(BUF) ## Generate Go from proto/ (the result is committed).
	$(BUF) generate
