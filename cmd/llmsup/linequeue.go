package main

import (
	"io"
	"slices"
	"sync"
)

// lineQueue passes lines to a writer in a goroutine of its own, so that a log line never waits for
// the reader of the log. A line that finds the queue full takes the place of the oldest one. It is
// used instead of zerolog's diode, which without polling can miss the last line before a quiet
// time: it may signal between the reader's look at an empty buffer and the reader's wait.
type lineQueue struct {
	lines         chan []byte
	stop, stopped chan struct{}
	close         sync.Once
}

func newLineQueue(to io.WriteCloser, size int) *lineQueue {
	q := &lineQueue{lines: make(chan []byte, size), stop: make(chan struct{}), stopped: make(chan struct{})}
	go q.run(to)
	return q
}

// Write queues a line. It does not block.
func (q *lineQueue) Write(line []byte) (int, error) {
	line = slices.Clone(line) // zerolog uses the array again
	for {
		select {
		case q.lines <- line:
			return len(line), nil
		default:
		}
		select {
		case <-q.lines:
		default:
		}
	}
}

func (q *lineQueue) run(to io.WriteCloser) {
	defer close(q.stopped)
	defer func() { _ = to.Close() }() // an error of the log cannot be reported anywhere
	for {
		select {
		case line := <-q.lines:
			_, _ = to.Write(line)
		case <-q.stop:
			for {
				select {
				case line := <-q.lines:
					_, _ = to.Write(line)
				default:
					return
				}
			}
		}
	}
}

// Close returns when all lines are written. Later lines are lost.
func (q *lineQueue) Close() error {
	q.close.Do(func() { close(q.stop) })
	<-q.stopped
	return nil
}
