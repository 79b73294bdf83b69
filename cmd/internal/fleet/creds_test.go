package fleet

import (
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// identity makes a key pair, and returns its public key.
func identity(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public
}

// signed returns the JWT of some claims.
func signed(t *testing.T, claims jwt.Claims, by nkeys.KeyPair) string {
	t.Helper()
	token, err := claims.Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A .creds file has the JWT of a user, which the operator's account has signed.
func TestCredsFile(t *testing.T) {
	t.Parallel()
	operator, operatorKey := identity(t, nkeys.CreateOperator)
	account, accountKey := identity(t, nkeys.CreateAccount)
	_, systemKey := identity(t, nkeys.CreateAccount)
	user, userKey := identity(t, nkeys.CreateUser)
	fleetAccount := jwt.NewAccountClaims(accountKey)
	fleetAccount.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: 128 << 20, Streams: 1, Consumer: 0}
	resolver := &server.MemAccResolver{}
	for key, token := range map[string]string{
		accountKey: signed(t, fleetAccount, operator), systemKey: signed(t, jwt.NewAccountClaims(systemKey), operator),
	} {
		if err := resolver.Store(key, token); err != nil {
			t.Fatal(err)
		}
	}
	nats := fleettest.Start(t, func(o *server.Options) {
		o.TrustedOperators = []*jwt.OperatorClaims{jwt.NewOperatorClaims(operatorKey)}
		o.AccountResolver, o.SystemAccount = resolver, systemKey
	})
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(signed(t, jwt.NewUserClaims(userKey), account), seed)
	if err != nil {
		t.Fatal(err)
	}
	s := settings(t, "a", nats.URL)
	s.CredentialsFile = keyFile(t, string(creds))
	start(t, s).sees(t)
}
