<?php
// The same hop in PHP, inside Apache: a curl handle for each request.
$next = getenv('NEXT');
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if (!$next) {
    echo 'end';
    exit;
}
$handle = curl_init($next . $path);
curl_setopt($handle, CURLOPT_RETURNTRANSFER, true);
$body = curl_exec($handle);
http_response_code(curl_getinfo($handle, CURLINFO_RESPONSE_CODE) ?: 502);
echo $body;
