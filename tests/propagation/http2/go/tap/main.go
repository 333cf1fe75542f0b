// A relay that changes nothing and decodes what passes: the header lists of requests, as the receiver decodes them.
//
//	tap LISTEN TARGET
//
// For each line on standard input, one line of JSON on standard output: what passed since the last one. Names and
// values are kept as they are, in their order. What breaks the framing or HPACK is a fault; what the peers say of
// each other in GOAWAY and RST_STREAM is counted by its code.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/net/http2/hpack"
)

const (
	data, headers, reset, settings, push, goaway, continuation = 0, 1, 3, 4, 5, 7, 9

	endStream, endHeaders, padded, priority, ack = 1, 4, 8, 0x20, 1
)

var preface = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

type report struct {
	Connections int            `json:"connections"`
	Requests    map[string]int `json:"requests"` // header list as JSON: times
	Trailers    map[string]int `json:"trailers"`
	Heads       map[string]int `json:"heads"` // of HTTP/1
	Resets      map[string]int `json:"resets"`
	Goaways     map[string]int `json:"goaways"`
	Faults      []string       `json:"faults"`
	Most        int            `json:"most"` // streams of one connection at a time
	Continued   int            `json:"continued"`
	Padded      int            `json:"padded"`
	Resized     int            `json:"resized"` // header blocks that begin with a change of the table's size
	Other       int            `json:"other"`   // connections that are neither
}

var (
	lock sync.Mutex
	now  = fresh()
)

func fresh() *report {
	return &report{Requests: map[string]int{}, Trailers: map[string]int{}, Heads: map[string]int{}, Resets: map[string]int{}, Goaways: map[string]int{}, Faults: []string{}}
}

func fault(format string, arguments ...any) {
	if len(now.Faults) < 20 {
		now.Faults = append(now.Faults, fmt.Sprintf(format, arguments...))
	}
}

// One connection; both directions hold the lock.
type session struct {
	decoder  *hpack.Decoder
	fields   [][2]string
	open     map[uint32]bool // true when the server answers on
	last     uint32
	block    []byte
	stream   uint32 // that the block belongs to, 0 for none
	ends     bool
	maxFrame uint32 // that the server takes
	upgraded bool
}

func newSession() *session {
	s := &session{open: map[uint32]bool{}, maxFrame: 16384}
	s.decoder = hpack.NewDecoder(4096, func(field hpack.HeaderField) { s.fields = append(s.fields, [2]string{field.Name, field.Value}) })
	return s
}

func (s *session) closed(stream uint32) { delete(s.open, stream) }

// Of a frame that may be padded, the payload without.
func stripped(flags byte, payload []byte) ([]byte, bool) {
	if flags&padded == 0 {
		return payload, true
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		return nil, false
	}
	now.Padded++
	return payload[1 : len(payload)-int(payload[0])], true
}

func (s *session) finish() {
	if len(s.block) > 0 && s.block[0]&0xe0 == 0x20 {
		now.Resized++
	}
	s.fields = [][2]string{}
	if _, err := s.decoder.Write(s.block); err != nil {
		fault("stream %d: HPACK: %v", s.stream, err)
	} else if err := s.decoder.Close(); err != nil {
		fault("stream %d: HPACK: %v", s.stream, err)
	}
	text, _ := json.Marshal(s.fields)
	if s.stream <= s.last {
		now.Trailers[string(text)]++
	} else {
		now.Requests[string(text)]++
		s.last = s.stream
		s.open[s.stream] = true
		if len(s.open) > now.Most {
			now.Most = len(s.open)
		}
		if s.stream%2 == 0 {
			fault("stream %d is not a client's", s.stream)
		}
	}
	s.block, s.stream = nil, 0
}

func (s *session) fromClient(kind, flags byte, stream uint32, payload []byte) {
	if uint32(len(payload)) > s.maxFrame {
		fault("a frame of type %d with %d bytes, the server takes %d", kind, len(payload), s.maxFrame)
	}
	if s.stream != 0 && (kind != continuation || stream != s.stream) {
		fault("a frame of type %d between HEADERS and their end", kind)
		s.stream = 0
	}
	switch kind {
	case headers:
		part, fine := stripped(flags, payload)
		if flags&priority != 0 {
			fine = fine && len(part) >= 5
			if fine {
				part = part[5:]
			}
		}
		if !fine || stream == 0 {
			fault("HEADERS of stream %d are too short", stream)
			return
		}
		s.block, s.stream = append([]byte{}, part...), stream
		if flags&endHeaders != 0 {
			s.finish()
		}
	case continuation:
		if s.stream == 0 {
			fault("CONTINUATION of nothing")
			return
		}
		now.Continued++
		s.block = append(s.block, payload...)
		if flags&endHeaders != 0 {
			s.finish()
		}
	case data:
		if stream > s.last {
			fault("DATA on stream %d, which is idle", stream)
		}
		if flags&padded != 0 {
			now.Padded++
		}
	case reset:
		s.ended("client", now.Resets, payload)
		s.closed(stream)
	case goaway:
		if len(payload) >= 8 {
			s.ended("client", now.Goaways, payload[4:])
		}
	}
}

func (s *session) ended(who string, in map[string]int, code []byte) {
	if len(code) >= 4 {
		in[fmt.Sprintf("%s %d", who, binary.BigEndian.Uint32(code))]++
	}
}

func (s *session) fromServer(kind, flags byte, stream uint32, payload []byte) {
	switch kind {
	case settings:
		if flags&ack != 0 {
			return
		}
		for ; len(payload) >= 6; payload = payload[6:] {
			value := binary.BigEndian.Uint32(payload[2:])
			switch binary.BigEndian.Uint16(payload) {
			case 1:
				s.decoder.SetAllowedMaxDynamicTableSize(max(value, 4096))
			case 5:
				s.maxFrame = max(value, s.maxFrame)
			}
		}
	case headers, data:
		if flags&endStream != 0 {
			s.closed(stream)
		}
	case reset:
		s.ended("server", now.Resets, payload)
		s.closed(stream)
	case goaway:
		if len(payload) >= 8 {
			s.ended("server", now.Goaways, payload[4:])
		}
	}
}

// Frames out of a stream of bytes.
type frames struct {
	buffer []byte
	handle func(kind, flags byte, stream uint32, payload []byte)
}

func (f *frames) feed(part []byte) {
	f.buffer = append(f.buffer, part...)
	at := 0
	for len(f.buffer)-at >= 9 {
		head := f.buffer[at:]
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if len(head) < 9+length {
			break
		}
		f.handle(head[3], head[4], binary.BigEndian.Uint32(head[5:])&0x7fffffff, head[9:9+length])
		at += 9 + length
	}
	f.buffer = append(f.buffer[:0], f.buffer[at:]...)
}

func pump(from, to *net.TCPConn, feed func([]byte)) {
	buffer := make([]byte, 1<<17)
	for {
		count, err := from.Read(buffer)
		if count > 0 {
			lock.Lock()
			feed(buffer[:count])
			lock.Unlock()
			if _, err := to.Write(buffer[:count]); err != nil {
				from.CloseRead()
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				to.SetLinger(0)
				to.Close()
			}
			to.CloseWrite()
			return
		}
	}
}

func relay(client *net.TCPConn, target string) {
	defer client.Close()
	dialed, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	server := dialed.(*net.TCPConn)
	defer server.Close()
	s := newSession()
	var begun, answered []byte
	what := "unknown"
	fromClient, fromServer := &frames{handle: s.fromClient}, &frames{handle: s.fromServer}
	lock.Lock()
	now.Connections++
	lock.Unlock()

	var begin func([]byte)
	begin = func(part []byte) {
		begun = append(begun, part...)
		if len(begun) >= len(preface) && bytes.Equal(begun[:len(preface)], preface) {
			what = "http2"
			fromClient.feed(begun[len(preface):])
		} else if end := bytes.Index(begun, []byte("\r\n\r\n")); end >= 0 && !bytes.HasPrefix(begun, []byte("PRI")) {
			now.Heads[string(begun[:end+4])]++
			if bytes.Contains(bytes.ToLower(begun[:end+2]), []byte("upgrade: h2c")) {
				s.upgraded = true
				s.last = 1
				rest := begun[end+4:]
				begun = nil
				begin(rest)
			} else {
				what = "http1"
			}
		} else if len(begun) >= len(preface) && end < 0 && len(begun) > 1<<16 {
			what = "other"
			now.Other++
		}
	}
	var done sync.WaitGroup
	done.Add(2)
	go func() {
		defer done.Done()
		pump(client, server, func(part []byte) {
			switch what {
			case "http2":
				fromClient.feed(part)
			case "unknown":
				begin(part)
			}
		})
	}()
	go func() {
		defer done.Done()
		pump(server, client, func(part []byte) {
			if what == "http1" || what == "other" {
				return
			}
			if s.upgraded && !bytes.HasSuffix(answered, []byte("\r\n\r\n")) {
				for len(part) > 0 && !bytes.HasSuffix(answered, []byte("\r\n\r\n")) {
					answered, part = append(answered, part[0]), part[1:]
				}
				if !bytes.HasPrefix(answered, []byte("HTTP/1.1 101")) {
					what = "http1"
					return
				}
			}
			fromServer.feed(part)
		})
	}()
	done.Wait()
	lock.Lock()
	defer lock.Unlock()
	if what == "http2" && (s.stream != 0 || len(fromClient.buffer) > 0) {
		fault("ended within a frame or a header block of the client")
	}
}

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				panic(err)
			}
			go relay(client.(*net.TCPConn), os.Args[2])
		}
	}()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		lock.Lock()
		was := now
		now = fresh()
		lock.Unlock()
		text, _ := json.Marshal(was)
		os.Stdout.Write(append(text, '\n'))
	}
}
