// A reverse proxy as Go programs have it: takes a listening address and a target URL, forwards HTTP, logs to standard error.
package main

import (
	"flag"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"
)

func main() {
	listen := flag.String("listen", ":80", "address to listen on")
	target := flag.String("target", "", "URL of the service behind")
	dial := flag.Duration("dial-timeout", 30*time.Second, "how long a connect may take")
	header := flag.Duration("header-timeout", 0, "how long the answer's head may take, 0 for ever")
	idle := flag.Int("idle", 32, "idle connections kept to the target")
	micro := flag.Bool("micro", false, "microseconds in the log")
	flag.Parse()
	if *micro {
		log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	}
	base, err := url.Parse(*target)
	if err != nil {
		log.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(base)
	proxy.Transport = &http.Transport{
		DialContext:           (&net.Dialer{Timeout: *dial, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   *idle,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: *header,
		DisableCompression:    true,
	}
	log.Fatal(http.ListenAndServe(*listen, proxy))
}
