# frozen_string_literal: true

# Ruby's grpc: a pool of threads serves, each calls the next hop on its own thread over one stub.
require "grpc"

PREFIX = "/hop.Chain/"
SERVICE = ENV.fetch("SERVICE")
NEXT = ENV.fetch("NEXT", "").delete_prefix("http://")
HZ = ENV.fetch("BG_HZ", "0").to_f
SECONDS = ENV.fetch("BG_SECONDS", "600").to_f
BYTES = ->(bytes) { bytes }
ARGS = { "grpc.enable_http_proxy" => 0 }.freeze
STUB = (GRPC::ClientStub.new(NEXT, :this_channel_is_insecure, channel_args: ARGS) unless NEXT.empty?)

def call_next(path)
  STUB.request_response(path, "", BYTES, BYTES, deadline: Time.now + 20)
end

def answer(path)
  forward = STUB && !path.start_with?("#{PREFIX}bg-")
  "#{SERVICE} #{forward ? call_next(path) : path}"
end

# A table that has every method.
class Any
  def initialize(&value)
    @value = value
  end

  def key?(_path) = true

  def size = 1

  def [](path) = @value.call(path.to_s)
end

# Any method; messages are bytes.
class Server < GRPC::RpcServer
  DESCRIPTION = GRPC::RpcDesc.new("any", String, String, :new, :new)

  protected

  def rpc_descs = @rpc_descs ||= Any.new { DESCRIPTION }

  def rpc_handlers = @rpc_handlers ||= Any.new { |path| ->(_request, _call) { answer(path) } }
end

if STUB && HZ.positive?
  Thread.new do
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    (HZ * SECONDS).to_i.times do |n|
      wait = start + n / HZ - Process.clock_gettime(Process::CLOCK_MONOTONIC)
      sleep(wait) if wait.positive?
      call_next("#{PREFIX}bg-#{SERVICE}-#{Process.pid}-#{n}")
    rescue StandardError => e
      warn "background: #{e}"
      sleep 0.2
    end
  end
end

# A thread is free for the pool a while after its answer has left, when it has had the interpreter again.
server = Server.new(pool_size: 200, poll_period: 1, server_args: { "grpc.so_reuseport" => 0 })
server.add_http2_port("127.0.0.1:#{ENV.fetch('PORT')}", :this_port_is_insecure)
server.run_till_terminated_or_interrupted(%w[TERM INT], 1)
