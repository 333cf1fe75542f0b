# frozen_string_literal: true

queue_requests false
threads 80, 80
