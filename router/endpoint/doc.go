// Package endpoint is the table of the paths at which the router takes calls: those of the
// public APIs, those of the local servers' own API, and the aliases of both. What the
// router has to know of a path is data here, so that no branch for one path is needed
// elsewhere.
//
// The router looks each request up once. The package reads no body and knows no route.
package endpoint
