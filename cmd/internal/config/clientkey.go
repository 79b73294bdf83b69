package config

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/models"
)

// ClientKey is the entry of a client's key: its hash and its rights, never the key
// itself. The file may also have only the hash.
type ClientKey struct {
	SHA256   string   `yaml:"sha256"`    // of the key, 64 hex digits
	Routes   []string `yaml:"routes"`    // patterns of the models' names that it may use; nil = all; an empty list, for operators only, = none
	FreeOnly *bool    `yaml:"free_only"` // its calls never go where they cost money, fallbacks included; nil = see Free
	Operator bool     `yaml:"operator"`  // it may read /metrics, with the figures of all keys, and use what is about a whole server
}

// clientKeyPrefix distinguishes llmsup's keys from others, for people and for scanners
// that look for leaked keys.
const clientKeyPrefix = "llmsup-"

// NewClientKey makes a key of 130 random bits, and its hash for ClientKey.
func NewClientKey() (key, hash string) {
	key = clientKeyPrefix + rand.Text()
	sum := sha256.Sum256([]byte(key))
	return key, hex.EncodeToString(sum[:])
}

const clientNameRule = "a key's name has at most 100 letters, digits, dots, dashes and underscores, and is not the key itself"

// ValidClientName reports whether a key may have a name. Names appear in the log.
func ValidClientName(name string) bool { return validName.MatchString(name) && !mayBeKey(name) }

// ValidRoutes reports whether a key may have these routes.
func ValidRoutes(routes []string) bool {
	return !slices.ContainsFunc(routes, func(pattern string) bool {
		return pattern == "" || strings.HasPrefix(pattern, "-") || strings.ContainsAny(pattern, " \t\r\n\"'")
	})
}

// Hash returns the hash as bytes. Validate has checked it.
func (k ClientKey) Hash() (hash [sha256.Size]byte) {
	raw, _ := hex.DecodeString(k.SHA256) // Validate has decoded it before
	copy(hash[:], raw)
	return hash
}

// Free reports whether the key's calls never go where they cost money. By default those
// of a key that allows only local models do not, so that it cannot spend money by their
// fallbacks.
func (k ClientKey) Free() bool {
	if k.FreeOnly != nil {
		return *k.FreeOnly
	}
	return len(k.Routes) > 0 && !slices.ContainsFunc(k.Routes, func(pattern string) bool {
		return pattern != "local" && !strings.HasPrefix(pattern, "local/")
	})
}

// UnmarshalYAML reads either form. It checks for unknown fields itself, since the library
// does not for types with this method.
func (k *ClientKey) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode && node.Tag != "!!null" {
		return node.Decode(&k.SHA256)
	}
	if node.Kind != yaml.MappingNode {
		return &models.ValueError{Line: node.Line, Want: "the SHA-256 of a key, or {sha256: ..., routes: [...]}"}
	}
	if unknown := unknownField(node, knownKeys["config.ClientKey"]); unknown != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: field %s not found in type config.ClientKey", unknown.Line, unknown.Value)}}
	}
	type plain ClientKey
	return node.Decode((*plain)(k))
}

// unknownField returns a key of a mapping that is not known; nil = none. Merged mappings
// (<<) are checked where they are defined.
func unknownField(node *yaml.Node, known []string) *yaml.Node {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if key := node.Content[i]; key.Tag != "!!merge" && !slices.Contains(known, resolved(key).Value) {
			return key
		}
	}
	return nil
}

// ValidateKeys checks the keys of the configuration.
func (c *Config) ValidateKeys() error {
	owners := map[[sha256.Size]byte]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		key := c.Keys[name]
		at := func(field, format string, args ...any) error {
			return c.positions.errorf([]string{"keys", name, field}, format, args...)
		}
		if !ValidClientName(name) {
			return c.positions.errorfFor("keys", []string{"keys", name}, clientNameRule)
		}
		if raw, err := hex.DecodeString(key.SHA256); err != nil || len(raw) != sha256.Size {
			return at("sha256", "is not the SHA-256 of a key (64 hex digits); \"llmsup key new %s\" generates both", name)
		}
		if other, taken := owners[key.Hash()]; taken {
			return at("sha256", "%s has the same key; generate another one", other)
		}
		owners[key.Hash()] = name
		if !ValidRoutes(key.Routes) {
			return at("routes", "takes model names and patterns (example: [local, \"local/*\", gpt-4o])")
		}
		if _, _, there := c.positions.find([]string{"keys", name, "routes"}); there && key.Routes == nil { // the file may be cut off
			return at("routes", "has no value; list the models, or leave it out to allow all")
		}
		if key.Routes != nil && len(key.Routes) == 0 && !key.Operator {
			return at("routes", "is empty; leave it out to allow all, or remove the key")
		}
	}
	return nil
}

// ValidateKeyUse checks all settings that depend on the keys.
func (c *Config) ValidateKeyUse() error {
	if err := c.validateAccess(); err != nil {
		return err
	}
	return c.validateAccounting()
}

func (k ClientKey) equal(other ClientKey) bool {
	return k.Hash() == other.Hash() && slices.Equal(k.Routes, other.Routes) && (k.Routes == nil) == (other.Routes == nil) &&
		k.Free() == other.Free() && k.Operator == other.Operator
}
