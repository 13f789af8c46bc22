package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// signer signs questions, as
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md says.
type signer struct{ key []byte } // nil: it does not

func newSigner(secret string) (signer, error) {
	if secret == "" {
		return signer{}, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) == 0 {
		return signer{}, errors.New("secret: want base64, with or without whsec_ before it")
	}
	return signer{key}, nil
}

// sign adds the headers. All tries of a question have the same.
func (s signer) sign(h http.Header, body []byte) error {
	id, at := "msg_"+rand.Text(), strconv.FormatInt(time.Now().Unix(), 10)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", at)
	if s.key == nil {
		return nil
	}
	mac := hmac.New(sha256.New, s.key)
	for _, part := range [][]byte{[]byte(id), []byte("."), []byte(at), []byte("."), body} {
		if _, err := mac.Write(part); err != nil {
			return err
		}
	}
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return nil
}
