package fleet

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// sealVersion begins a sealed announcement. Behind it are its code, in hex, a line feed, and
// the Box as JSON.
const sealVersion = "llmsup1 "

const macLength = 2 * sha256.Size // hex digits

// errForeign means that a value is not an announcement of this fleet: another program or an
// outsider has written it, or a box with another key.
var errForeign = errors.New("it is not authenticated with this fleet's key")

// sealer authenticates announcements with the fleet's key, and encrypts nothing: what a box
// announces is no secret, but calls are sent where it says. The key itself is in no message.
type sealer struct{ key []byte }

// newSealer returns a sealer with a key of its own that is derived from the fleet's.
func newSealer(fleetKey secret) sealer { return sealer{fleetKey.derive("announcement")} }

func (s sealer) code(body []byte) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write(body)
	return mac.Sum(nil)
}

// seal returns the announcement of a box.
func (s sealer) seal(b *Box) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("announce this box: %w", err)
	}
	body, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("announce this box: %w", err)
	}
	value := append([]byte(sealVersion+hex.EncodeToString(s.code(body))+"\n"), body...)
	if len(value) > maxValue {
		return nil, fmt.Errorf("announce this box: its %d models do not fit into %d KiB", len(b.Models), maxValue>>10)
	}
	return value, nil
}

// open returns the Box of an announcement. Nothing of the value is interpreted before its
// code has been verified.
func (s sealer) open(value []byte) (*Box, error) {
	if len(value) > maxValue {
		return nil, fmt.Errorf("%w, or has over %d KiB", errForeign, maxValue>>10)
	}
	rest, ok := bytes.CutPrefix(value, []byte(sealVersion))
	if !ok || len(rest) <= macLength || rest[macLength] != '\n' {
		return nil, errForeign
	}
	code, body := make([]byte, sha256.Size), rest[macLength+1:]
	if _, err := hex.Decode(code, rest[:macLength]); err != nil || !hmac.Equal(code, s.code(body)) {
		return nil, errForeign
	}
	var b Box
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, fmt.Errorf("read it: %w; the box may have a newer version of llmsup", err)
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	return &b, nil
}
