package collect

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/router/plan"
)

// Routing returns the present routing.
type Routing func() *plan.Routing

// Collectors returns the collectors of all metrics.
func Collectors(present Routing) []prometheus.Collector {
	return []prometheus.Collector{upstreams{present}, accounting{present}}
}

// LabelValue makes a name valid as a label's value, which must be UTF-8 (else client_golang
// panics): a model's file may have any name.
func LabelValue(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }
