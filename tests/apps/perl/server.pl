#!/usr/bin/env perl
# Mojolicious, server and client on one event loop, which waits in poll() unless EV is there.
use Mojolicious::Lite -signatures;
use Time::HiRes 'time';

my ($service, $next, $port) = @ENV{qw(SERVICE NEXT PORT)};
my ($hz, $seconds) = ($ENV{BG_HZ} // 0, $ENV{BG_SECONDS} // 600);

app->log->level('error');
app->ua->request_timeout(20)->max_connections(1000);

sub call_next ($path) {
    return app->ua->get_p("$next$path")->then(sub ($tx) {
        die $tx->res->code unless $tx->res->is_success;
        return $tx->res->body;
    });
}

any '/*rest' => sub ($c) {
    my $path = $c->req->url->path->to_string;
    return $c->render(text => "$service $path") if !$next || $path =~ m{^/bg/};
    $c->render_later;
    call_next($path)->then(sub ($body) { $c->render(text => "$service $body") })
        ->catch(sub ($error) { $c->render(text => $error, status => 502) });
};

if ($next && $hz) {
    my ($n, $start) = (0, time);
    my $again;
    $again = sub {
        call_next("/bg/$service/$$-$n")->catch(sub ($error) { warn "background: $error\n" });
        my $wait = $start + ++$n / $hz - time;
        Mojo::IOLoop->timer($wait > 0 ? $wait : 0, $again) if $n < $hz * $seconds;
    };
    Mojo::IOLoop->next_tick($again);
}

app->start('daemon', '--listen', "http://127.0.0.1:$port", '--backlog', 256, '--clients', 1000, '--requests', 100_000_000);
