<?php
// One hop under mod_php: file_get_contents, a new connection per call.
// The background caller is a worker that has answered `/start-background` and goes on calling: it must adopt nothing.
$next = $_SERVER['NEXT'];
$service = $_SERVER['SERVICE'];
$path = $_SERVER['REQUEST_URI'];

function call(string $url)
{
    $options = ['http' => ['timeout' => 20, 'protocol_version' => 1.1, 'header' => "Connection: close\r\n"]];
    return @file_get_contents($url, false, stream_context_create($options));
}

function answer(string $body, int $status = 200): void
{
    http_response_code($status);
    header('Content-Type: text/plain');
    header('Content-Length: ' . strlen($body));
    echo $body;
}

if ($path === '/start-background') {
    ignore_user_abort(true);
    set_time_limit(0);
    header('Connection: close');
    answer("$service started");
    while (ob_get_level() > 0) {
        ob_end_flush();
    }
    flush();
    $hz = (float) $_SERVER['BG_HZ'];
    $limit = (int) ($hz * (float) $_SERVER['BG_SECONDS']);
    $start = microtime(true);
    $failed = 0;
    for ($n = 0; $next !== '' && $n < $limit && $failed < 50; $n++) {
        usleep((int) max(0, 1e6 * ($start + $n / $hz - microtime(true))));
        $failed = call("$next/bg/$service/" . getmypid() . "-$n") === false ? $failed + 1 : 0;
    }
    exit;
}

$below = $path;
if ($next !== '' && !str_starts_with($path, '/bg/')) {
    $below = call($next . $path);
}
$below === false ? answer('next hop failed', 502) : answer("$service $below");
