// HTTP/2 requests with prior knowledge, by net/http's transport. Each body comes back as it was sent.
//
//	load BASE COUNT LEVEL [trailers]
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"

	"spanwire.test/http2/body"
)

func main() {
	base := os.Args[1]
	count, _ := strconv.Atoi(os.Args[2])
	level, _ := strconv.Atoi(os.Args[3])
	trailers := len(os.Args) > 4
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: &protocols, DisableCompression: true}}
	var errors []string
	var lock sync.Mutex
	var done sync.WaitGroup
	one := func(number int) error {
		sent := body.Of(number)
		var source io.Reader = bytes.NewReader(sent)
		if trailers {
			source = io.MultiReader(source) // of unknown length
		}
		request, err := http.NewRequest("POST", fmt.Sprintf("%s/echo?id=%d", base, number), source)
		if err != nil {
			return err
		}
		request.Header.Set("X-Id", strconv.Itoa(number))
		if trailers {
			request.Trailer = http.Header{"X-Sum": {body.Sum(sent)}}
		}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		got, err := io.ReadAll(answer.Body)
		if err != nil {
			return err
		}
		if answer.StatusCode != 200 || answer.ProtoMajor != 2 || !bytes.Equal(got, sent) {
			return fmt.Errorf("%s, status %d: %d bytes came back for %d, or others", answer.Proto, answer.StatusCode, len(got), len(sent))
		}
		return nil
	}
	run := func(number int) {
		if err := one(number); err != nil {
			lock.Lock()
			errors = append(errors, fmt.Sprintf("%d: %v", number, err))
			lock.Unlock()
		}
	}
	run(0) // one connection for all
	for worker := 0; worker < level; worker++ {
		done.Add(1)
		go func() {
			defer done.Done()
			for number := worker + 1; number < count; number += level {
				run(number)
			}
		}()
	}
	done.Wait()
	if len(errors) > 0 {
		fmt.Println(len(errors), "errors:", errors[:min(3, len(errors))])
		os.Exit(1)
	}
}
