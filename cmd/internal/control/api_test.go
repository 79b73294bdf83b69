package control

import (
	"encoding/json"
	"testing"
	"time"
)

// TestStatusJSON holds the contract's JSON: its names and their order, what is more
// than it asks for after them, null for what a driver does not give, and lists
// that are never null.
const noMoney = `"ledger":{"condition":"","reason":"","lag_seconds":0,"waiting":0,"lost":0,"aside":""},"budgets":[],"page":"","tls":null,"fleet":null}`

func TestStatusJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	total, percent := uint64(24), 0
	for name, tc := range map[string]struct {
		value any
		want  string
	}{
		"nothing": {Status{}, `{"version":"","listen":"","inflight":0,"servers":[],"gpus":[],"upstreams":[],"gpu_problem":"","drain":null,` + noMoney},
		"a pointer": {
			&Status{Version: "v", Listen: "l", Inflight: 1, Upstreams: []Upstream{{Name: "openrouter", Healthy: true}}},
			`{"version":"v","listen":"l","inflight":1,"servers":[],"gpus":[],"upstreams":[{"name":"openrouter","healthy":true,"reason":"","missing_key":false}],"gpu_problem":"","drain":null,` + noMoney,
		},
		"a server": {
			Server{Name: "n", State: "ready", Since: at, PID: 1, Model: "m", CtxSize: 8192, Slots: 4, LastExit: &LastExit{At: at}},
			`{"name":"n","state":"ready","since":"2026-01-02T03:04:05Z","reason":"","pid":1,"restarts":0,"model":"m","ctx_size":8192,` +
				`"slots":4,"busy":0,"queued":0,"last_exit":{"at":"2026-01-02T03:04:05Z","code":0,"signal":"","class":"","tail":[]},"drain":null,"vram":null,"download":null,"load_progress":null,"ready_expected":null,"waiting_for_model":0,"waiting_since":null,"service_seconds":null,"prompt_tokens_per_second":null}`,
		},
		"a server that never ended": {
			Server{Since: at},
			`{"name":"","state":"","since":"2026-01-02T03:04:05Z","reason":"","pid":0,"restarts":0,"model":"","ctx_size":0,` +
				`"slots":0,"busy":0,"queued":0,"last_exit":null,"drain":null,"vram":null,"download":null,"load_progress":null,"ready_expected":null,"waiting_for_model":0,"waiting_since":null,"service_seconds":null,"prompt_tokens_per_second":null}`,
		},
		"a GPU": {
			GPU{Name: "g", MemoryTotalBytes: &total, UtilizationPercent: &percent, Health: "ok"},
			`{"index":0,"uuid":"","name":"g","memory_total_bytes":24,"memory_used_bytes":null,"memory_free_bytes":null,` +
				`"utilization_percent":0,"temperature_celsius":null,"power_watts":null,"health":"ok","reason":"",` +
				`"memory_utilization_percent":null,"power_limit_watts":null,"clocks_event_reasons":null,"ecc_uncorrected":null,"pcie_replays":null,"processes":null,"memory_parts":null}`,
		},
	} {
		got, err := json.Marshal(tc.value)
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, tc.want)
		}
	}
}
