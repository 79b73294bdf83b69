package threeboxes

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

const (
	users = 50
	// atOnce is how many users wait for an answer at a time.
	atOnce = 6
	// cacheShare is what the boxes must have cached, of what one box of their size has.
	cacheShare = 0.9
)

// turns is the number of each user's turns. Twenty take minutes on two cores.
func turns() int {
	if long() {
		return 20
	}
	return 8
}

// TestPromptCache: users whose calls go to random boxes find nearly as many tokens of their
// chats cached as they do on one box with the slots of all three.
func TestPromptCache(t *testing.T) {
	var one, three cacheFigures
	t.Run("one box", func(t *testing.T) { one = chatAtRandom(t, startFleet(t, 1, 24, 1000*usd.Dollar)) })
	t.Run("three boxes", func(t *testing.T) { three = chatAtRandom(t, startFleet(t, 3, 8, 1000*usd.Dollar)) })
	if one.cached == 0 || float64(three.cached) < cacheShare*float64(one.cached) {
		t.Errorf("three boxes had %d tokens cached, one box %d", three.cached, one.cached)
	}
	t.Logf("three boxes had %.1f %% of the tokens cached that one box had", 100*float64(three.cached)/float64(one.cached))
}

// cacheFigures are tokens of prompts, and how many of them llama-server had.
type cacheFigures struct{ prompt, cached int }

// chatAtRandom has the chats of all users, and returns the sums of their calls.
func chatAtRandom(t *testing.T, f *fleet) (sum cacheFigures) {
	t.Helper()
	began := time.Now()
	var mu sync.Mutex
	moves := 0 // of chats from one box to another
	var all sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for user := range users {
		all.Go(func() {
			var history []message
			var last string // llama-server
			for turn := range turns() {
				history = append(history, message{"user", fmt.Sprintf("user %d asks %d", user, turn)})
				id := fmt.Sprintf("user-%d-%d", user, turn)
				tokens := 5 + rand.IntN(10)
				places <- struct{}{}
				b := f.boxes[rand.IntN(len(f.boxes))]
				reply, err := f.clients.ask(b, id, &call{id: id, model: "local/demo", messages: history, tokens: tokens})
				<-places
				if err != nil || reply.text != count(1, tokens) {
					t.Errorf("%s: %q, %v", id, reply.text, err)
					return
				}
				history = append(history, message{"assistant", reply.text})
				by := reply.backend
				if !strings.Contains(by, "/") {
					by = b.name + "/" + by
				}
				mu.Lock()
				if turn > 1 && by != last {
					moves++
				}
				last = by
				sum.prompt += reply.prompt
				sum.cached += reply.cached
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Logf("of %d tokens of prompts %d were cached; after their second turn, chats moved %d times; %s", sum.prompt, sum.cached, moves, time.Since(began).Round(time.Millisecond))
	return sum
}
