package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/wire"
)

// reachTimeout limits the wait for each box's answer.
const reachTimeout = 3 * time.Second

// reach warns of the boxes that this one cannot call at the addresses that they advertise.
func (f *findings) reach(ctx context.Context, settings fleet.Settings, heard *fleet.Heard) {
	tlsConfig, err := settings.TLS()
	if err != nil {
		f.fail(fmt.Errorf("fleet: %w", err))
		return
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true}
	problems := make([]error, len(heard.Boxes))
	var tasks sync.WaitGroup
	for i := range heard.Boxes {
		to := &heard.Boxes[i]
		tasks.Go(func() { problems[i] = callBox(ctx, transport, to, heard.Hop(to)) })
	}
	tasks.Wait()
	for i, err := range problems {
		if b := heard.Boxes[i]; err != nil {
			f.warn("fleet: %s cannot be called at %s: %s; check fleet.advertise of %s", b.Name, b.Address, err, b.Name)
		}
	}
}

// callBox calls a box as another box does, without a call for a model. The box answers 404 if it
// has accepted the code.
func callBox(ctx context.Context, transport http.RoundTripper, to *fleet.Peer, hop string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to.Address, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set(wire.HeaderHop, boxes.Hop{Box: hop, Server: "check", Timeout: reachTimeout}.String())
	resp, err := transport.RoundTrip(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s", reachTimeout)
	case err != nil:
		return err
	}
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil
	case http.StatusForbidden:
		return errors.New("another box answers there")
	}
	return fmt.Errorf("it answers %d, and may not be llmsup", resp.StatusCode)
}
