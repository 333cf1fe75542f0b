require 'digest'
require 'net/http'

base = URI(ARGV[0])

def must(holds, what) = holds || abort(what)

Net::HTTP.start(base.host, base.port) do |http|
  ARGV[1].to_i.times do |number|
    must(http.get("/get/#{number}").body == 'ok', 'get')
    body = (number % 256).chr * 300_000
    must(http.post("/upload/#{number}", body).body == Digest::SHA256.hexdigest(body), 'upload')
    answer = http.get("/download/#{number}")
    must(answer['X-Sum'] == Digest::SHA256.hexdigest(answer.body), 'download')
  end
end
