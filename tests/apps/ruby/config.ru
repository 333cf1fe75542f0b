# frozen_string_literal: true

# Rack app for puma: a pool of threads, one request per thread; Net::HTTP with a new connection per call.
require "net/http"
require "uri"

SERVICE = ENV.fetch("SERVICE")
NEXT = ENV.fetch("NEXT", "")
HZ = ENV.fetch("BG_HZ", "0").to_f
SECONDS = ENV.fetch("BG_SECONDS", "600").to_f

def call_next(path)
  uri = URI(NEXT)
  http = Net::HTTP.new(uri.host, uri.port, nil)
  http.max_retries = 0
  http.read_timeout = 20
  answer = http.start { http.get(path) }
  raise "status #{answer.code}" unless answer.code == "200"

  answer.body
end

if !NEXT.empty? && HZ.positive?
  Thread.new do
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    (HZ * SECONDS).to_i.times do |n|
      wait = start + n / HZ - Process.clock_gettime(Process::CLOCK_MONOTONIC)
      sleep(wait) if wait.positive?
      call_next("/bg/#{SERVICE}/#{Process.pid}-#{n}")
    rescue StandardError => e
      warn "background: #{e}"
      sleep 0.2
    end
  end
end

run(lambda do |env|
  path = env["PATH_INFO"]
  forward = !NEXT.empty? && !path.start_with?("/bg/")
  body = "#{SERVICE} #{forward ? call_next(path) : path}"
  [200, { "Content-Type" => "text/plain", "Content-Length" => body.bytesize.to_s }, [body]]
rescue StandardError => e
  [502, { "Content-Type" => "text/plain" }, [e.to_s]]
end)
