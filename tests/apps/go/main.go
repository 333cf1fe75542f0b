// Go net/http: a goroutine per connection; the background caller is a goroutine.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

var (
	next    = os.Getenv("NEXT")
	service = os.Getenv("SERVICE")
	client  = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
)

func call(path string) (string, error) {
	answer, err := client.Get(next + path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != 200 {
		err = fmt.Errorf("status %d", answer.StatusCode)
	}
	return string(body), err
}

func handle(w http.ResponseWriter, r *http.Request) {
	body, err := r.URL.Path, error(nil)
	if next != "" && !strings.HasPrefix(body, "/bg/") {
		body, err = call(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintf(w, "%s %s", service, body)
}

func number(key string, fallback float64) float64 {
	if value, err := strconv.ParseFloat(os.Getenv(key), 64); err == nil {
		return value
	}
	return fallback
}

func background() {
	hz := number("BG_HZ", 0)
	if next == "" || hz <= 0 {
		return
	}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / hz))
	for n := 0; n < int(hz*number("BG_SECONDS", 600)); n++ {
		<-ticker.C
		if _, err := call(fmt.Sprintf("/bg/%s/%d-%d", service, os.Getpid(), n)); err != nil {
			log.Print("background: ", err)
		}
	}
}

func main() {
	go background()
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(handle)))
}
