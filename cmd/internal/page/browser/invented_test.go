package browser_test

import (
	"fmt"
	"maps"
	"net/http"
	"time"
)

// inventedCalls are ended calls, newest first.
func inventedCalls() []map[string]any {
	now := time.Now()
	var calls []map[string]any
	for i := range 240 {
		call := map[string]any{
			"id": fmt.Sprint(900000 - i), "time": now.Add(-time.Duration(i*97) * time.Second), "request_id": fmt.Sprintf("req-%d", i), "key": []string{"crawler", "web", "batch"}[i%3],
			"route": "local/qwen2.5-14b", "model": "local/qwen2.5-14b", "backend": "qwen2.5-14b", "backend_model": "qwen2.5-14b", "reason": "", "status": 200, "stream": i%2 == 0, "local": true,
			"wait_ms": nil, "first_ms": 310 + i, "ms": 2100 + 13*i, "prompt_tokens": 812 + i, "cached_tokens": 512, "completion_tokens": 188 + i%50, "cost_usd": 0, "saved_usd": 0.000184, "resumed": false, "partial": false,
		}
		switch i % 9 {
		case 2:
			call["backend"], call["backend_model"], call["reason"], call["local"] = "openrouter", "qwen/qwen-2.5-14b-instruct", "saturated", false
			call["cost_usd"], call["saved_usd"], call["wait_ms"] = 0.0001543, nil, 1200
		case 5:
			call["model"], call["route"], call["backend"], call["backend_model"], call["local"] = "gpt-4o", "gpt-4o", "openrouter", "openai/gpt-4o", false
			call["cost_usd"], call["saved_usd"] = 0.0123, nil
		case 7:
			call["status"], call["completion_tokens"], call["first_ms"], call["saved_usd"] = 502, nil, nil, nil
		}
		calls = append(calls, call)
	}
	return calls
}

// inventedFiles are files on disk, of each kind.
func inventedFiles() []map[string]any {
	file := func(name, kind string, size int64, more map[string]any) map[string]any {
		f := map[string]any{
			"name": name, "path": "/srv/models/" + name + ".gguf", "parts": 1, "size_bytes": size, "kind": kind, "quantization": "", "parameters": nil, "trained_context": nil,
			"vram_need_bytes": nil, "uncertain": "", "placements": nil, "problem": "",
		}
		maps.Copy(f, more)
		return f
	}
	model := func(name string, size int64, parameters, need int64) map[string]any {
		return file(name, "model", size, map[string]any{
			"quantization": "Q4_K_M", "parameters": parameters, "trained_context": 131072, "vram_need_bytes": need, "largest_context": 65536, "placements": []any{[]any{map[string]any{"gpu": 0, "need_bytes": need}}},
		})
	}
	large := model("llama-3.3-70b-instruct-q4_k_m", 42_520_393_152, 70_553_706_496, 45_000_000_000)
	large["parts"] = 2
	large["largest_context"] = 0
	return []map[string]any{
		model("gemma-3-4b-it-q4_k_m", 2_489_757_856, 3_880_099_328, 3_900_000_000), large,
		file("gemma-3-4b-it-mmproj-f16", "projector", 851_251_104, nil), file("notes", "unusable", 214, map[string]any{"problem": "this is a text file (it starts with \"Hello\"), llama-server needs a GGUF file"}),
	}
}

func inventedLog() []map[string]any {
	now := time.Now()
	line := func(ago time.Duration, server, level, text string) map[string]any {
		return map[string]any{"server": server, "at": now.Add(-ago), "level": level, "text": text, "lost": 0}
	}
	return []map[string]any{
		line(time.Minute, "", "info", "llmsup listens on 127.0.0.1:8000"),
		line(50*time.Second, "qwen2.5-14b", "info", "main: server is listening on http://127.0.0.1:41237"),
		line(40*time.Second, "", "warn", "openrouter: connect: connection refused; the next attempt is in 12 s"),
		line(30*time.Second, "qwen2.5-14b", "info", "slot launch_slot_: id  2 | task 4711 | processing task"),
		line(20*time.Second, "", "error", "box2: lost the connection in the middle of an answer; the call continued on openrouter"),
		line(10*time.Second, "whisper", "info", "load_tensors: offloaded 33/33 layers to GPU"),
	}
}

func sums(calls, local int, cost, saved any) map[string]any {
	return map[string]any{
		"calls": calls, "failed": calls / 50, "local": local, "paid": calls - local, "resumed": 1, "partial": 2, "prompt_tokens": calls * 812, "cached_tokens": calls * 512,
		"completion_tokens": calls * 188, "unknown_tokens": 0, "cost_usd": cost, "unknown_cost": 0, "saved_usd": saved, "unknown_saved": 0,
	}
}

func group(name string, calls, local int, cost, saved any) map[string]any {
	g := sums(calls, local, cost, saved)
	g["name"] = name
	return g
}

// usage answers with sums of the last seven days.
func (f *fixture) usage(w http.ResponseWriter, r *http.Request) {
	now := time.Now().UTC()
	groups := map[string][]map[string]any{
		"model":   {group("local/qwen2.5-14b", 7812, 7640, 0.9412, 24.108), group("gpt-4o", 214, 0, 3.2107, nil), group("whisper", 96, 96, 0, nil)},
		"backend": {group("qwen2.5-14b", 7640, 7640, 0, 24.108), group("openrouter", 386, 0, 4.1519, nil), group("whisper", 96, 96, 0, nil)},
		"key":     {group("crawler", 5210, 5100, 0.51, 16.2), group("web", 2102, 1890, 3.4419, 5.908), group("batch", 810, 746, 0.2, 2)},
		"reason":  {group("saturated", 121, 0, 0.6011, nil), group("restarting", 31, 0, 0.2107, nil), group("timeout", 20, 0, 0.1294, nil)},
	}
	for day := 6; day >= 0; day-- {
		date := now.AddDate(0, 0, -day).Format(time.DateOnly)
		groups["day"] = append(groups["day"], group(date, 900+60*day, 860+58*day, 0.4+0.05*float64(day%3), 3.1+0.2*float64(day%4)))
	}
	by := r.URL.Query().Get("by")
	answer(w, map[string]any{"from": now.AddDate(0, 0, -7), "to": now, "total": sums(8122, 7736, 4.1519, 24.108), "groups": groups[by]})
}
