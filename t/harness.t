#!/usr/bin/perl

# Tests for what the tests stand on: harness, WebSocket client, scripted
# core, Kamailio as configured in conf/, tokens by openssl.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite/)->has_daemon('openssl')
    ->has_daemon('kamailio')->plan(33);

$t->write_file_expand('nginx.conf', <<"EOF");

@{[ $> == 0 ? 'user root;' : '' ]}
daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        location / {
            return 200 "port %%PORT_8080%% in %%TESTDIR%%";
        }
    }
}

EOF

ims_keys($t);
ims_core($t);

$t->run();

###############################################################################

# nginx

my $port = port(8080);

like(http_get('/'), qr/200 OK.*port $port in \Q@{[ $t->testdir() ]}\E/s,
    'expanded');

$t->reload();
ok(ims_wait_log($t, qr/exited with code 0/), 'reloaded');
like(http_get('/'), qr/200 OK/, 'served after a reload');

my ($good, $why) = ims_conf_error($t, "events {}\nhttp { no_such; }\n");
ok(!$good, 'bad configuration refused');
like($why, qr/unknown directive "no_such"/, 'and why');

# WebSocket, refused by a server that has none

my $ws = ImsWs->new(port => $port, origin => 'http://localhost');
is($ws->{status}, 200, 'no upgrade');
ok(!$ws->{accepted}, 'no key of ours');

my $frame = $ws->frame('x' x 300, mask => 0);
is(length $frame, 304, 'length of 16 bits');
is(unpack('x2n', $frame), 300, 'length as sent');

my $masked = $ws->frame("\0" x 8);
my ($key) = unpack 'x2a4', $masked;
is(substr($masked, 6), $key x 2, 'masked');

# the scripted core

my $core = ImsCore->new(port(8061));
my $s = IO::Socket::INET->new('127.0.0.1:' . port(8061));
my $ua = ImsSip->new(aor => 'sip:web-000001@ims.example', token => 'abc');

my $text = $ua->register(expires => 300);
$s->syswrite(substr($text, 0, 50));
ok($core->silent(0.2), 'half a message is none');
$s->syswrite(substr($text, 50) . "\r\n\r\n" . $ua->register());

my ($m, $link) = $core->request(2);
is($m->{method}, 'REGISTER', 'request');
is(sip_header($m, 'authorization'), 'Bearer abc', 'token in it');
like(sip_header($m, 'Contact'), qr/reg-id=1;\+sip.instance=.*expires=300/,
    'contact of JsSIP');
is(sip_header(($core->request(2))[0], 'CSeq'), '2 REGISTER', 'pipelined');

$core->reply($link, $m, 403, 'No', extra => ['X: y']);
$s->sysread(my $answer, 4096);
my $r = sip_parse($answer);
is($r->{status}, 403, 'answer');
is(sip_header($r, 'X'), 'y', 'line added');
is(sip_header($r, 'Via'), sip_header($m, 'Via'), 'Via copied');

# Kamailio

my $auth = 'Digest username="web-000001@ims.example",realm="ims.example",'
    . 'nonce="",uri="sip:ims.example",response=""';

is(kamailio(authorization => ''), 403, 'no auth-done');
is(kamailio(authorization => $auth), 403, 'digest without auth-done');
is(kamailio(authorization => "$auth,integrity-protected=\"auth-done\"",
    to => 'sip:web-000002@ims.example'), 403, 'identity of another');
is(kamailio(authorization => "$auth,integrity-protected=\"auth-done\""), 200,
    'auth-done');

my $b = ims_core_bindings($t)->{'web-000001@ims.example'};
is(scalar @$b, 1, 'one binding');
like($b->[0]{path}, qr/sip:tok\@127.0.0.1:8070/, 'path kept');
is(scalar(() = ims_core_log($t)), 4, 'requests in the trace');

# tokens

my $d = $t->testdir();
my $jwt = ims_jwt({ alg => 'ES256' }, { sub => 'x' }, "$d/site.key.pem");
is(length((split /\./, $jwt)[2]), 86, 'raw signature of 64 bytes');
is(ims_claims($jwt)->{sub}, 'x', 'claims');

# a test that fails or dies tells what nginx said last, one that passes does not

for (['is(1, 2)', 1], ['die "oh"', 1], ['is(1, 1)', 0]) {
    my ($code, $tells) = @$_;

    $t->write_file('told.t', <<"    EOF");
        use Test::More;
        use lib '$Ims::ROOT/t/lib';
        use Test::Nginx;
        my \$t = Test::Nginx->new()->plan(1);
        \$t->write_file('error.log', "1 [warn] said\\n2 [debug] not said\\n");
        $code;
    EOF

    my (undef, $out) = ims_run($^X, "$d/told.t");
    is($out =~ /^# \S+told.t: end of error.log:\n# 1 \[warn\] said$/m ? 1 : 0,
        $tells, "$code: the end of the log");
    unlike($out, qr/not said/, "$code: not all of it");
}

###############################################################################

sub kamailio {
    my (%o) = @_;

    my $s = IO::Socket::INET->new('127.0.0.1:' . port(8060));
    my $ua = ImsSip->new(aor => 'sip:web-000001@ims.example',
        transport => 'TCP');

    $s->syswrite($ua->register(%o,
        extra => ['Path: <sip:tok@127.0.0.1:8070;transport=tcp;lr;ob>']));

    my $buf = '';

    while (1) {
        my $reply = sip_frame(\$buf);
        return sip_parse($reply)->{status} if defined $reply;
        $s->sysread($buf, 4096, length $buf) or return undef;
    }
}

###############################################################################
