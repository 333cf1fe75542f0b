# The same hop on Rack, for puma.
require "net/http"

NEXT_HOP = ENV.fetch("NEXT", "").empty? ? nil : URI(ENV["NEXT"])

def call_next(path)
  http = Thread.current[:next_hop] ||= Net::HTTP.new(NEXT_HOP.host, NEXT_HOP.port).tap do |connection|
    connection.keep_alive_timeout = 30
    connection.max_retries = 0
    connection.start
  end
  response = http.get(path)
  [response.code.to_i, response.body]
end

hertz = ENV.fetch("BG_HZ", "0").to_f
if NEXT_HOP && hertz.positive?
  Thread.new do
    count = 0
    loop do
      sleep 1 / hertz
      begin
        call_next("/bg/#{Process.pid}-#{count += 1}")
      rescue StandardError
        Thread.current[:next_hop] = nil
      end
    end
  end
end

run lambda { |env|
  status, body = NEXT_HOP ? call_next(env["PATH_INFO"]) : [200, "end"]
  [status, { "content-length" => body.bytesize.to_s }, [body]]
}
