// Package certificate has the endpoint speak HTTPS: it reads the certificate and its key, which
// llmsup.yaml names under tls, takes renewed ones while llmsup runs, and tells clients that speak
// HTTP what to change. cmd/internal/config has its Settings, cmd/llmsup reads the files, and
// cmd/internal/daemon listens with it. It never requests or writes a certificate, and no error
// contains a part of a key.
package certificate
