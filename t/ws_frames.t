#!/usr/bin/perl

# Tests for the life of a WebSocket: messages in frames however they are cut,
# ping and pong, keep-alive, the end of it from either side, and clients that
# do not read, do not answer, or never register.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Socket qw/ SOL_SOCKET SO_RCVBUF IPPROTO_TCP TCP_NODELAY /;
use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(55);

ims_keys($t);
ims_cert($t);
ims_pool($t);

$t->write_file_expand('nginx.conf', ims_conf($t,
    http => 'ims_max_message 16k;',
    server => 'listen 127.0.0.1:8082 sndbuf=4k;',
    locations => <<'    END'));

        location = /pings {
            ims_pass              core;
            ims_accept_issuer     site;
            ims_ping_interval     1s;
            ims_pong_timeout      1s;
        }

        location = /unregistered {
            ims_pass              core;
            ims_accept_issuer     site;
            ims_register_timeout  2s;
        }

        location = /queue {
            ims_pass              core;
            ims_accept_issuer     site;
            ims_send_queue        8k;
        }
    END

$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $ua = ImsSip->new(aor => 'sip:web-000001@ims.example');

# an answer comes in the kind of frame that the question came in

my $ws = open_ws();
$ws->send($ua->register());
my $f = $ws->_next(time() + 3);
is("$f->{opcode} $f->{fin}", '1 1', 'text for text');
like($f->{payload}, qr{^SIP/2.0 401 }, 'the answer');

$ws->send($ua->register(), opcode => 2);
is($ws->_next(time() + 3)->{opcode}, 2, 'binary for binary');

# cut anywhere

is(answers($ws, split //, $ws->frame($ua->register())), '401',
    'byte by byte');
is(answers($ws, join '', map { $ws->frame($ua->register()) } 1 .. 5),
    '401 401 401 401 401', 'five in one write');
my $ten = join '', map { $ws->frame($ua->register()) } 1 .. 10;
is(answers($ws, $ten =~ /(.{1,777})/gs), join(' ', ('401') x 10),
    'ten in pieces of another size');

# fragments, with control frames between them

my $text = $ua->register();
$ws->send(substr($text, 0, 10), fin => 0);
$ws->ping('one');
is($ws->pong(3), 'one', 'ping within a message');
$ws->send(substr($text, 10, 100), opcode => 0, fin => 0);
$ws->send('', opcode => 0, fin => 0);
$ws->ping('two');
$ws->send(substr($text, 110), opcode => 0);
is(answers($ws), '401', 'a message in fragments');
is($ws->pong(3), 'two', 'and its pong');

# a character cut by a fragment is a character

$text = $ua->register(extra => ["Subject: \xe2\x82\xac"]);
my $cut = index($text, "\xe2") + 1;
$ws->send(substr($text, 0, $cut), fin => 0);
$ws->send(substr($text, $cut), opcode => 0);
is(answers($ws), '401', 'UTF-8 over two fragments');

# as large as may be, and in as many pieces

$text = $ua->register(extra => ['X: ' . 'x' x 15000]);
is(answers($ws, $ws->frame($text)), '401', 'a large message');

$ws->write(join '', $ws->frame('', fin => 0),
    map { $ws->frame('', opcode => 0, fin => 0) } 1 .. 1024);
is(($ws->closed(3))[0], 1008, 'too many fragments');

# pings

$ws = open_ws();
$ws->ping("\0" x 125);
is($ws->pong(3), "\0" x 125, 'ping of 125 bytes');
$ws->ping('');
is($ws->pong(3), '', 'an empty one');
$ws->write(join '', map { $ws->frame("p$_", opcode => 9) } 1 .. 1000);
$text = '';
while (defined(my $pong = $ws->pong($text eq 'p1000' ? 0.3 : 3))) {
    $text = $pong;
}
is($text, 'p1000', 'the last of many is answered');
$ws->send('nobody asked', opcode => 10);
ok(crlf($ws), 'a pong that nobody asked for');

# keep-alive (RFC 5626 4.4.1)

$ws->send("\r\n");
is($ws->recv(0.3), undef, 'CRLF alone is not answered');
ok(crlf($ws), 'CRLF CRLF is');

# small messages do not wait for each other's acknowledgement

setsockopt $ws->{s}, IPPROTO_TCP, TCP_NODELAY, 1;
my ($start, @took);
for (1 .. 41) {
    $start = time();
    $ws->send("\r\n\r\n");
    $ws->send("\r\n\r\n");
    $ws->recv(3) && $ws->recv(3) or last;
    push @took, time() - $start;
}

# a delayed acknowledgement is 40 ms; what else a busy machine does is rarer
cmp_ok((sort { $a <=> $b } @took)[20] // 9, '<', 0.03, 'two answers in a row');

# the same over TLS

$ws = open_ws(port => port(8443), ssl => 1);
is(answers($ws, join '', map { $ws->frame($ua->register()) } 1 .. 5),
    '401 401 401 401 401', 'five in one write, TLS');
$text = $ua->register(extra => ['X: ' . 'x' x 15000]);
is(answers($ws, $ws->frame($text)), '401', 'a large message, TLS');
is(($ws->close(1000, 'bye'))[0], 1000, 'closed, TLS');

# the client closes

for (
    ['1000', pack('n', 1000), 1000],
    ['1000 with a reason', pack('na*', 1000, 'good bye'), 1000],
    ['1001', pack('n', 1001), 1001],
    ['3000', pack('n', 3000), 3000],
    ['no code', '', 1000],
    ['1005', pack('n', 1005), 1002],
    ['999', pack('n', 999), 1002],
    ['half a code', 'x', 1002],
    ['a reason that is not UTF-8', pack('na*', 1000, "\xff"), 1007],
) {
    my ($name, $payload, $code) = @$_;

    my $ws = open_ws();
    $ws->{closing} = 1;
    $ws->send($payload, opcode => 8);
    $ws->closed(3);
    is(join(' ', $ws->{close} ? $ws->{close}[0] : 'none', ended($ws)),
        "$code ended", "closed by the client: $name");
}

# what comes behind a Close is not looked at

$ws = open_ws();
$ws->{closing} = 1;
$ws->write($ws->frame(pack('n', 1000), opcode => 8)
           . $ws->frame($ua->register()));
is($ws->recv(3), undef, 'a message behind the Close');
is($ws->{close}[0], 1000, 'closed');

# an answer goes out before the Close that follows it

$ws = open_ws();
$ws->send($ua->register(token => 'bad'));
like($ws->recv(3), qr{^SIP/2.0 403 }, 'answered');
is(($ws->closed(3))[0], 1008, 'then closed');

# a client that does not answer the Close

$ws = open_ws();
$ws->{closing} = 1;
$ws->send('x', mask => 0);
is(($ws->closed(3))[0], 1002, 'Close of ours');
$start = time();
ended($ws, 5);
my $took = time() - $start;
ok($took > 1 && $took < 10, 'not answered: ended all the same');

# nobody is there any more

my $before = ims_status()->{counters};
open_ws()->drop() for 1 .. 20;
ok(ims_wait(3, sub {
    ims_count_log($t, qr/closes with 0: (?:client is gone|read error)/) >= 20
}), 'reset by the client');

# a client that sends and does not read

$ws = open_ws(port => port(8082), uri => '/queue');
setsockopt $ws->{s}, SOL_SOCKET, SO_RCVBUF, 4096;
$ws->{s}->blocking(0);
my $many = join '', map { $ws->frame($ua->register()) } 1 .. 100;
$start = time();
until (ims_status()->{counters}{ws_slow_reader}) {
    local $SIG{PIPE} = 'IGNORE';
    $ws->{s}->syswrite($many);
    last if time() - $start > 10;
    sleep 0.01;
}
$ws->{s}->blocking(1);
is(ims_status()->{counters}{ws_slow_reader}, 1, 'slow reader');
like($t->read_file('error.log'),
    qr/client does not read, \d{1,4} bytes wait/, 'logged');
ended($ws, 5);
ok(crlf(open_ws()), 'others are served');

# ping of ours

$ws = open_ws(uri => '/pings');
$text = undef;
for (1 .. 15) {
    $text //= $ws->recv(1);
    last if @{$ws->{pings} // []} >= 3;
}
is($text, undef, 'nothing but pings');
cmp_ok(@{$ws->{pings} // []}, '>=', 3, 'pings while idle');
ok(crlf($ws), 'answered: it lives on');

$ws = open_ws(uri => '/pings');
$ws->{mute} = 1;
$start = time();
is(($ws->closed(5))[0], 1006, 'no pong: closed without a word');
$took = time() - $start;
ok($took > 1.7 && $took < 8, 'in time');
is(ims_status()->{counters}{ws_pong_timeout}, 1, 'counted');

# any bytes do in place of a pong

$ws = open_ws(uri => '/pings');
$ws->{mute} = 1;
for (1 .. 14) {
    $ws->send("\r\n");
    $ws->recv(0.25);
}
ok(crlf($ws), 'whoever sends is there');

# never registered

$before = ims_status()->{counters}{ws_unregistered};
$ws = open_ws(uri => '/unregistered');
$start = time();
for (1 .. 20) {
    last unless crlf($ws);
    sleep 0.2;
}
is(($ws->closed(3))[0], 1008, 'not registered: closed');
$took = time() - $start;
ok($took > 1.8 && $took < 8, 'in time, whatever it sends');
is(ims_status()->{counters}{ws_unregistered} - $before, 1, 'counted');

# registered, and then no more

my $c = ImsClient->new(ws => { uri => '/unregistered' });
$c->registered($core);
sleep 2.5;
ok($c->alive(), 'registered: stays');

$c->send($c->{ua}->register(expires => 0));
my ($m, $link) = $core->request();
$core->reply($link, $m, 200, 'OK', contact => '');
is($c->answer()->{status}, 200, 'de-registered');
$start = time();
is(($c->{ws}->closed(5))[0], 1008, 'closed after a while');
cmp_ok(time() - $start, '<', 8, 'in time');

###############################################################################

sub open_ws {
    return ImsWs->new(port => port(8080), origin => 'http://localhost', @_);
}


# writes these bytes, then reads all answers: their statuses

sub answers {
    my ($ws, @bytes) = @_;

    my @status;

    $ws->write($_) for @bytes;

    while (defined(my $text = $ws->recv(@status ? 0.2 : 3))) {
        push @status, sip_parse($text)->{status};
    }

    return join ' ', @status;
}


sub crlf {
    my ($ws) = @_;

    $ws->send("\r\n\r\n");

    return ($ws->recv(3) // '') eq "\r\n";
}


# the end of the connection, in time

sub ended {
    my ($ws, $seconds) = @_;

    my $end = time() + ($seconds // 3);

    1 while !$ws->{eof} && $ws->_fill($end);

    return $ws->{eof} ? 'ended' : 'open';
}

###############################################################################
