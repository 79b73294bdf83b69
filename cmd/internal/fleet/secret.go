package fleet

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// secret is the fleet's key. Nothing that is sent contains it: each purpose has a key of its
// own, which is derived from it.
type secret []byte

// derive returns the key of a purpose; 32 bytes.
func (s secret) derive(purpose string) []byte {
	mac := hmac.New(sha256.New, s)
	mac.Write([]byte("llmsup fleet " + purpose))
	return mac.Sum(nil)
}

// cipher returns AES-256-GCM with random nonces.
func (s secret) cipher(purpose string) cipher.AEAD {
	block, err := aes.NewCipher(s.derive(purpose))
	if err != nil {
		panic(err) // only a key of another length has an error
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// seal encrypts and authenticates a message of a purpose.
func (s secret) seal(purpose string, body []byte) []byte {
	return s.cipher(purpose).Seal(nil, nil, body, nil) //nolint:gosec // G407: this AEAD makes the nonce itself
}

// errNotSealed means that a message was not sealed with this fleet's key for its purpose, or
// was changed.
var errNotSealed = errors.New("it is not sealed with this fleet's key")

// open is the inverse of seal.
func (s secret) open(purpose string, sealed []byte) ([]byte, error) {
	body, err := s.cipher(purpose).Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, errNotSealed
	}
	return body, nil
}

// hopCode returns what authenticates the calls of one box at one process of another: 64 hex
// digits. It is useless anywhere else, so that a program which gets a call in the place of that
// process can do nothing with it. There is no time in it: clocks may differ.
func (s secret) hopCode(from string, to *Box) string {
	mac := hmac.New(sha256.New, s.derive("hop"))
	mac.Write([]byte(strings.Join([]string{from, to.Name, to.Instance}, "\n"))) // names and instances have no line feeds
	return hex.EncodeToString(mac.Sum(nil))
}
