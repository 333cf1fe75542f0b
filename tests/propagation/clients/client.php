<?php
$base = $argv[1];
$curl = curl_init();

function call($url, $body = null) {
    global $curl;
    curl_reset($curl);
    $sum = '';
    curl_setopt_array($curl, [CURLOPT_URL => $url, CURLOPT_RETURNTRANSFER => true,
        CURLOPT_HEADERFUNCTION => function ($curl, $line) use (&$sum) {
            if (stripos($line, 'x-sum:') === 0) $sum = trim(substr($line, 6));
            return strlen($line);
        }]);
    if ($body !== null) curl_setopt($curl, CURLOPT_POSTFIELDS, $body);
    $data = curl_exec($curl);
    must($data !== false, curl_error($curl));
    return [$data, $sum];
}

function must($holds, $what) {
    if (!$holds) { fwrite(STDERR, "$what\n"); exit(1); }
}

for ($number = 0; $number < (int)$argv[2]; $number++) {
    must(call("$base/get/$number")[0] === 'ok', 'get');
    $body = str_repeat(chr($number % 256), 300000);
    must(call("$base/upload/$number", $body)[0] === hash('sha256', $body), 'upload');
    [$data, $sum] = call("$base/download/$number");
    must($sum === hash('sha256', $data), 'download');
}
