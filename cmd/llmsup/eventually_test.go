package main

import "time"

// testTimeout is how long a test waits for something that must happen, even on a busy
// machine.
const testTimeout = 3 * time.Minute

// eventually polls ok until it returns true, and reports false if it does not within
// the limit. It is the only place where tests sleep. The last poll is after the limit: on a busy machine the
// test itself may not run for seconds.
func eventually(limit time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}
