package fleet

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/llmsup/llmsup/cmd/internal/config/keyfile"
)

const (
	// requestTimeout limits the wait for an answer of a NATS server.
	requestTimeout = 2 * time.Second
	// pingInterval is how often an idle connection is tested.
	pingInterval = 2 * time.Second
)

// dialer opens connections that a context closes until they are kept, so that no server can
// delay a stop.
type dialer struct {
	ctx  context.Context //nolint:containedctx // the library's dialers get none
	keep func() bool     // for the last connection
	err  error           // of the last one
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: requestTimeout}).DialContext(d.ctx, network, address)
	d.err = err
	if err == nil {
		d.keep = context.AfterFunc(d.ctx, func() { _ = conn.Close() })
	}
	return conn, err
}

// connect connects to one of the NATS servers. The connection is not repaired: a new one is
// made in its place. broken receives why it does not work.
func connect(ctx context.Context, s Settings) (nc *nats.Conn, broken <-chan error, err error) {
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default: // only the first error is reported
		}
	}
	dialing, cancel := context.WithCancel(ctx)
	defer cancel()
	dial := &dialer{ctx: dialing, keep: func() bool { return true }}
	options := []nats.Option{
		nats.Name("llmsup " + s.BoxName()), nats.NoReconnect(), nats.NoEcho(), nats.Timeout(requestTimeout), nats.SetCustomDialer(dial),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(1),
		nats.ClosedHandler(func(nc *nats.Conn) {
			err := nc.LastError()
			if err == nil {
				err = errors.New("the server closed it")
			}
			fail(fmt.Errorf("the connection to NATS was lost: %w", err))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				fail(fmt.Errorf("NATS denies a permission that a box needs (listed in the fleet's README, Security): %w", err))
			}
		}),
	}
	if s.CAFile != "" {
		path, err := keyfile.Path(s.CAFile)
		if err != nil {
			return nil, nil, err
		}
		// RootCAs demands TLS, also for nats://; but ca_file may be for the boxes' own certificates only.
		options = append(options, nats.RootCAs(path), func(o *nats.Options) error {
			o.Secure = false // tls:// sets it again, and a server that requires TLS gets it
			return nil
		})
	}
	if s.CredentialsFile != "" {
		option, err := credentials(s.CredentialsFile)
		if err != nil {
			return nil, nil, err
		}
		options = append(options, option)
	}
	if nc, err = connectAny(s.NATS, dial, options); err != nil {
		return nil, nil, err
	}
	dial.keep()
	return nc, failed, nil
}

// connectAny connects to one of the servers, in random order. It tries one after the other itself,
// since the library's error is that of the last one, or none.
func connectAny(servers []string, dial *dialer, options []nats.Option) (*nats.Conn, error) {
	problems := make([]string, len(servers))
	hint := ""
	var broken *net.OpError
	for _, i := range mathrand.Perm(len(servers)) {
		dial.err = nil
		nc, err := nats.Connect(servers[i], options...)
		switch {
		case err == nil:
			return nc, nil
		case dial.err != nil:
			hint = "; check that nats-server runs there, its listen address and firewalls, and fleet.nats in llmsup.yaml"
			err = dial.err
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = fmt.Errorf("no answer within %s; nats-server hangs, or another program listens there", requestTimeout)
		case errors.As(err, &broken) && (broken.Op == "read" || broken.Op == "write"):
			err = broken.Err // without the port of this box, which is another one at each attempt
		}
		problems[i] = fmt.Sprintf("%s: %s", servers[i], explain(err))
	}
	return nil, fmt.Errorf("connect to NATS at %s%s", strings.Join(problems, "; "), hint)
}

// credentials returns the option for a file with an nkey's seed, or with a JWT and a seed.
func credentials(file string) (nats.Option, error) {
	path, err := keyfile.Path(file)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the credentials for NATS: %w", err)
	}
	if strings.Contains(string(raw), "BEGIN NATS USER JWT") {
		return nats.UserCredentials(path), nil
	}
	option, err := nats.NkeyOptionFromSeed(path)
	if err != nil {
		return nil, fmt.Errorf("%s is neither a .creds file nor the seed of an nkey", file)
	}
	return option, nil
}

// explain adds what to do to an error of the library.
func explain(err error) error {
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return fmt.Errorf("%w; ca_file needs the certificate of the authority that has signed the server's", err)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return fmt.Errorf("%w; check credentials_file", err)
	case errors.Is(err, nats.ErrSecureConnRequired):
		return fmt.Errorf("%w; write tls:// in nats", err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("%w; write nats:// in nats, or add tls to the server's configuration", err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w; enable JetStream in the servers' configuration (jetstream {})", err)
	}
	return err
}
