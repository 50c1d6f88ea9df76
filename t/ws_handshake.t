#!/usr/bin/perl

# Tests for the WebSocket handshake (RFC 6455 4.2, RFC 7118): what is an
# upgrade to SIP, and how everything else is refused. For Origin and token
# see ims_origin.t and ims_token_handshake.t.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsWs;
use Test::Nginx qw/ :DEFAULT http_start /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(54);

ims_keys($t);
ims_cert($t);

$t->write_file_expand('nginx.conf', ims_conf($t,
    server => $t->has_module('http_v2') ? 'listen 127.0.0.1:8081 http2;' : ''));
$t->run();

###############################################################################

my $refused = 0;

# the way it should be

my $ws = ImsWs->new(port => port(8080), origin => 'http://localhost');
is($ws->{status}, 101, 'upgrade');
ok($ws->{accepted}, 'Sec-WebSocket-Accept');
is($ws->{chosen}, 'sip', 'Sec-WebSocket-Protocol');
like($ws->{response}, qr/^Upgrade: websocket\r$/mi, 'Upgrade');
like($ws->{response}, qr/^Connection: upgrade\r$/mi, 'Connection');
unlike($ws->{response}, qr/^Content-Length|^Transfer-Encoding/mi, 'no body');
ok(ims_wait_log($t, qr{"GET /ims/ws HTTP/1.1" 101 }, file => 'access.log'),
    'logged at once');

$ws = ImsWs->new(port => port(8443), ssl => 1, origin => 'http://localhost');
is($ws->{status}, 101, 'upgrade over TLS');
ok(served($ws), 'served over TLS');

# tokens of a list, whatever is around them

is(status('Upgrade' => 'WebSocket'), 101, 'Upgrade in another case');
is(status('Upgrade' => 'h2c, websocket'), 101, 'Upgrade among others');
is(status('Connection' => 'keep-alive, Upgrade'), 101, 'Connection: list');
is(status('Connection' => 'UPGRADE ,x'), 101, 'Connection in another case');
is(status('Sec-WebSocket-Protocol' => 'chat, sip'), 101, 'sip among others');
is(status('Sec-WebSocket-Protocol' => "chat\r\nSec-WebSocket-Protocol: sip"),
    101, 'sip in a second line');
is(status('Content-Length' => '0'), 101, 'an empty body is none');

# extensions are not negotiated

my $reply = handshake('Sec-WebSocket-Extensions' => 'permessage-deflate');
like($reply, qr/ 101 /, 'an extension offered');
unlike($reply, qr/Sec-WebSocket-Extensions/i, 'is not taken');

# methods

for my $method (qw/ POST PUT HEAD DELETE OPTIONS PATCH /) {
    my $reply = handshake(method => $method);
    like($reply, qr/ 405 /, $method);
    $refused++;
}
like(handshake(method => 'POST'), qr/^Allow: GET\r$/m, 'what is allowed');
$refused++;

# no upgrade

for (
    ['no Upgrade', Upgrade => undef],
    ['Upgrade to something else', Upgrade => 'h2c'],
    ['Upgrade to something longer', Upgrade => 'websockets'],
    ['no Connection', Connection => undef],
    ['Connection of something else', Connection => 'notupgrade'],
    ['no version', 'Sec-WebSocket-Version' => undef],
    ['version 8', 'Sec-WebSocket-Version' => '8'],
    ['version 130', 'Sec-WebSocket-Version' => '130'],
    ['two versions', 'Sec-WebSocket-Version' =>
        "13\r\nSec-WebSocket-Version: 13"],
) {
    my ($name, @header) = @$_;
    my $reply = handshake(@header);

    like($reply, qr{^HTTP/1.1 426 .*^Sec-WebSocket-Version: 13\r$}sm,
        "$name: 426, with the version");
    $refused++;
}

like(handshake(Upgrade => undef), qr/^Upgrade: websocket\r$/m,
    'what to upgrade to');
$refused++;

# 400

for (
    ['no key', 'Sec-WebSocket-Key' => undef],
    ['short key', 'Sec-WebSocket-Key' => 'AAAAAAAAAAAAAAAAAAAA'],
    ['long key', 'Sec-WebSocket-Key' => 'A' x 26 . '=='],
    ['key with other characters',
        'Sec-WebSocket-Key' => 'AAAAAAAAAAAAAAAAAAAA*A=='],
    ['two keys', 'Sec-WebSocket-Key' =>
        "AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        . 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=='],
    ['no subprotocol', 'Sec-WebSocket-Protocol' => undef],
    ['gossip', 'Sec-WebSocket-Protocol' => 'gossip'],
    ['sip in capitals', 'Sec-WebSocket-Protocol' => 'SIP'],
    ['sip2', 'Sec-WebSocket-Protocol' => 'sip2, xsip'],
    ['a body', 'Content-Length' => 5, body => 'hello'],
    ['a chunked body', 'Transfer-Encoding' => 'chunked',
        body => "5\r\nhello\r\n0\r\n\r\n"],
    ['HTTP/1.0', http => 'HTTP/1.0'],
) {
    my ($name, @o) = @$_;

    is(status(@o), 400, $name);
    $refused++;
}

is(ims_status()->{counters}{handshake_bad}, $refused, 'each counted');
ok(ims_wait_log($t, qr/\[info\] .*ims handshake refused with \d+: \S/,
    count => $refused), 'each logged with its reason');

# there is no such upgrade in HTTP/2

SKIP: {
    skip 'no HTTP/2 here', 1
        unless $t->has_module('http_v2')
               && grep { -x "$_/curl" } split /:/, $ENV{PATH};

    my (undef, $out) = ims_run('curl', '-s', '-o', '/dev/null', '-w',
        '%{http_version} %{http_code}', '--http2-prior-knowledge',
        '-H', 'Origin: http://localhost', '-H', 'Sec-WebSocket-Version: 13',
        '-H', 'Sec-WebSocket-Protocol: sip',
        'http://127.0.0.1:' . port(8081) . '/ims/ws');
    is($out, '2 400', 'HTTP/2');
}

# a frame that comes together with the handshake is not lost

$ws = ImsWs->new(port => port(8080), origin => 'http://localhost',
    first => ImsWs->frame("\r\n\r\n") . ImsWs->frame('ping', opcode => 9));
is($ws->recv(3), "\r\n", 'a frame behind the handshake');
is($ws->pong(3), 'ping', 'and another');

# part of one, the rest later

my $frame = ImsWs->frame("\r\n\r\n");
$ws = ImsWs->new(port => port(8080), origin => 'http://localhost',
    first => substr $frame, 0, 3);
$ws->write(substr $frame, 3);
is($ws->recv(3), "\r\n", 'a frame cut by the handshake');

# a client that leaves with its handshake

my $before = ims_status()->{counters}{handshakes};
for (1 .. 20) {
    my $s = http_start(request(), PeerAddr => '127.0.0.1:' . port(8080));
    $s->close();
}
ok(ims_wait(3, sub {
    ims_status()->{counters}{handshakes} - $before == 20
}), 'clients that leave at once');

###############################################################################

# the text of a handshake; undef leaves a header out

sub request {
    my (%o) = @_;

    my %headers = (
        Host => 'localhost', Origin => 'http://localhost',
        Upgrade => 'websocket', Connection => 'Upgrade',
        'Sec-WebSocket-Version' => 13,
        'Sec-WebSocket-Key' => 'AAAAAAAAAAAAAAAAAAAAAA==',
        'Sec-WebSocket-Protocol' => 'sip',
        map { $_ => $o{$_} } grep { /^[A-Z]/ } keys %o
    );

    return join("\r\n",
        ($o{method} // 'GET') . ' /ims/ws ' . ($o{http} // 'HTTP/1.1'),
        (map { "$_: $headers{$_}" } grep { defined $headers{$_} }
            sort keys %headers), '', '') . ($o{body} // '');
}


# the head of the answer to it

sub handshake {
    my $s = http_start(request(@_)) or return '';

    my $head = '';
    while (defined(my $line = $s->getline())) {
        $head .= $line;
        last if $line eq "\r\n";
    }
    $s->close();

    return $head;
}


sub status { return handshake(@_) =~ m{^HTTP/1\.1 (\d+)} ? $1 : 0 }


sub served {
    my ($ws) = @_;

    $ws->send("\r\n\r\n");

    return ($ws->recv(3) // '') eq "\r\n";
}

###############################################################################
