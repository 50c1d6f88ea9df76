#!/usr/bin/perl

# Tests for datagrams of the core: who may send them, what is read of them,
# where the answers go, and what -t says of "udp".

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use IO::Socket::IP;

use Ims;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(65);

ims_keys($t);

my $conf = ims_conf($t, udp => 1, workers => 3);
my $port = port(8070);

ims_cert($t);

###############################################################################

# what -t says

my $listen = 'ims_listen 127.0.0.1:8070 udp advertise=127.0.0.1:8070;';

refused('udp alone', qr/"udp" alone: large requests go by TCP/,
    sub { s/ims_listen +127.0.0.1:8070 advertise=\S+//; });
refused('tls and udp', qr/"tls" and "udp" do not go together/,
    sub { s/8070 udp/8070 udp tls/ });
refused('udp twice', qr/duplicate "ims_listen" of "127.0.0.1:\d+"/,
    sub { s/\Q$listen\E/$listen $listen/ });
refused('reuseport', qr/"reuseport" is not taken/,
    sub { s/8070 udp/8070 udp reuseport/ });
refused('sctp', qr/invalid parameter "sctp"/, sub { s/8070 udp/8070 sctp/ });
refused('no ims_listen with udp',
    qr/"ims_pass core udp" needs an "ims_listen" with "udp"/,
    sub { s/\Q$listen\E// });
refused('ims_pass sctp', qr/"ims_pass": invalid parameter "sctp"/,
    sub { s/core udp/core sctp/ });
refused('a peer that is not allowed',
    qr/"127.0.0.2:\d+" is not within "ims_core_allow"/,
    sub { s/server 127.0.0.1:8060/server 127.0.0.2:8060/ });
refused('too many', qr/more than 16 "ims_listen" with "udp": "127.0.0.1:\d+"/,
    sub { s/\Q$listen\E/join ' ', map { "ims_listen 127.0.0.$_:8070 udp;" } 1 .. 17/e });
refused('a family that is not listened for',
    qr/no "ims_listen" with "udp" can send to "\[::1\]:5060"/,
    sub { s/server 127.0.0.1:8060/server [::1]:5060/ });
refused('ims_core_ssl', qr/"ims_pass core udp" and "ims_core_ssl on" do not/,
    sub { s/ims_core_allow/ims_core_ssl on; ims_core_ssl_verify off;
        ims_listen 127.0.0.1:8075 tls; ims_listen_certificate localhost.crt;
        ims_listen_certificate_key localhost.key; ims_core_allow/ });
refused('a wildcard', qr/needs "advertise=HOST:PORT"/,
    sub { s/127.0.0.1:8070 udp \S+;/8070 udp;/ });

###############################################################################

$t->write_file_expand('nginx.conf', $conf);
$t->run();

# whole messages

my $s = socket_of();
like(ask($s, options()), qr{^SIP/2.0 200 OK\r\n}, 'options');
like(ask($s, options() =~ s/Content-Length: 0\r\n//r), qr/ 200 OK/,
    'no Content-Length');
like(ask($s, "\r\n\r\n" . options()), qr/ 200 OK/, 'line ends before it');
like(ask($s, options() . options(cseq => 99)), qr/ 200 OK/,
    'more than Content-Length says is cut');
is(answer($s, 0.3), undef, 'and never another message');

for (1 .. 200) {
    $s->send(options(cseq => $_));
    my $cseq = answer($s) // '';
    $cseq =~ /CSeq: $_ / or last;
    pass('two hundred, one by one') if $_ == 200;
}

# where answers go: rport, else the port of sent-by (RFC 3581, RFC 3261 18.2.2)

like(ask($s, options(via => 'SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bKa')),
    qr{^Via:\ SIP/2.0/UDP\ 127.0.0.1:9;(?=.*rport=@{[$s->sockport()]}\b)
        (?=.*branch=z9hG4bKa\b).*received=127.0.0.1\b}mx,
    'rport, with received');
my $other = socket_of();
$s->send(options(via => 'SIP/2.0/UDP core.example:'
    . $other->sockport() . ';branch=z9hG4bKb'));
like(answer($other), qr{;received=127.0.0.1\r\n}, 'without: to sent-by');
is(answer($s, 0.3), undef, 'and nowhere else');

# the same request, the same answer, whichever worker gets it

my $again = options(ruri => 'sip:nobody@127.0.0.1', branch => 'z9hG4bKsame');
my %tags;
for (1 .. 30) {
    my ($tag) = (ask($s, $again) // '') =~ /^To: .*;tag=(\S+)/m;
    $tags{$tag // 'none'}++;
}
is(scalar keys %tags, 1, 'one To tag for what is repeated');
ok(!$tags{none}, 'and there is one');
isnt((ask($s, options(ruri => 'sip:nobody@127.0.0.1'))
    =~ /^To: .*;tag=(\S+)/m)[0], (keys %tags)[0], 'another one for another');

# half messages, lies, noise: answered or dropped, never kept

my $bad = count('core_bad');

like(ask($s, options() =~ s/(Content-Length: )0/${1}10/r), qr{^SIP/2.0 400 },
    'Content-Length beyond the datagram');
like(ask($s, options() =~ s/(Content-Length: )0/$1-1/r), qr{^SIP/2.0 400 },
    'negative');
like(ask($s, options() =~ s/(Content-Length: )0/${1}99999999999999999999/r),
    qr{^SIP/2.0 400 }, 'beyond all numbers');
like(ask($s, options() =~ s/CSeq: \d+ OPTIONS/CSeq: 1 INVITE/r),
    qr{^SIP/2.0 400 }, 'another method in CSeq');

my $text = options(body => 'of it');
for my $cut (1, 20, 100, length($text) - 9) {
    for my $part (substr($text, 0, $cut), substr($text, $cut)) {
        $s->send($part);
        unlike(answer($s, 0.1) // '', qr{^SIP/2.0 2},
            "a part of it, cut at $cut");
    }
}

silent("\0\1\2\3" x 100, 'noise');
silent(options() =~ s/OPTIONS/ACK/gr =~ s/CSeq: \d+/CSeq: x/r, 'a bad ACK');
silent("SIP/2.0 200 OK\r\nContent-Length: 5\r\n\r\n", 'a bad response');
cmp_ok(count('core_bad') - $bad, '>=', 12, 'counted');
ok(ims_wait_log($t, qr/\[error\].* datagram from 127.0.0.1:\d+: /), 'logged');

$bad = count('core_bad');
silent($_, 'keep-alive') for "\r\n\r\n", "\r\n", '';
is(count('core_bad'), $bad, 'not counted');

# what is larger than ims_max_message is answered once it can be

$t->write_file_expand('nginx.conf', $conf =~ s/(ims_core_allow)/
    ims_max_message 4k; $1/r =~ s/(worker_connections)/accept_mutex on; $1/r);
$t->reload();
ok(ims_wait_log($t, qr/exited with code 0/, count => 3), 'reloaded');
like(ask($s, options(body => 'x' x 9000)), qr{^SIP/2.0 513 }, 'too large');
like(ask($s, options(body => 'x' x 60000)), qr{^SIP/2.0 513 }, 'much too large');
silent("OPTIONS sip:x SIP/2.0\r\nX: " . 'x' x 9000, 'endless headers');
is(count('udp_too_big'), 3, 'counted');
like(ask($s, options(body => 'x' x 3000)), qr/ 200 OK/, 'fits');

# from elsewhere

my $foreign = socket_of('127.0.0.2');
my $received = count('udp_received');
$foreign->send(options());
is(answer($foreign, 0.5), undef, 'foreign address');
$foreign->send(options()) for 1 .. 50;
ok(ims_wait(5, sub { count('udp_refused') == 51 }), 'counted');
is(count('udp_received'), $received, 'and not read');
ok(ims_wait_log($t, qr/\[warn\].* datagram from 127.0.0.2:\d+: refused by "ims_core_allow"/),
    'logged');
cmp_ok(ims_count_log($t, qr/127.0.0.2:\d+: refused/), '<', 10,
    'but not for each');

# answers that nobody asked for, with a branch that the edge never made

my $answer = options() =~ s{^OPTIONS .*?\r\n}{SIP/2.0 200 OK\r\n}r;
silent($answer, 'an answer to nothing');
silent($answer =~ s/branch=\w+/branch=z9hG4bK3c002000010aindgjvlo914i5hvme8a33c/r,
    'a branch that looks like ours');
silent($answer =~ s/branch=\w+/branch=z9hG4bKprobe0123456789abcdef0123456789abcdef/r,
    'one that looks like a probe');
is(count('response_unmatched'), 3, 'dropped and counted');

# each message of RFC 4475, whole and cut

my ($sent, $alive) = (0, 0);
for my $file (glob "$Ims::ROOT/t/torture/rfc4475/*.dat") {
    open my $f, '<:raw', $file or die "$file: $!\n";
    my $text = do { local $/; <$f> };
    for my $part ($text, substr($text, 0, length($text) / 2)) {
        my $own = socket_of();
        $own->send($part);
        $sent++;
        $own = socket_of();
        $alive++ if ask($own, options()) =~ / 200 OK/;
    }
}
cmp_ok($sent, '>', 90, "$sent torture messages");
is($alive, $sent, 'and after each the next is served');

# bursts: no worker is lost in them

my @got;
for my $n (1 .. 20) {
    $s->send(options(cseq => $_)) for 1 .. 40;
    while (defined(my $m = answer($s, @got >= 40 * $n ? 0 : 2))) {
        push @got, $m;
    }
}
cmp_ok(scalar @got, '>', 700, 'bursts answered');
is(count('udp_unsent'), 0, 'nothing unsent');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

sub refused {
    my ($name, $says, $change) = @_;

    local $_ = $conf;
    $change->();
    my ($good, $out) = ims_conf_error($t, $_);

    ok(!$good && $out =~ $says, "refused: $name") or diag($out);
}


sub socket_of {
    my ($host) = @_;

    return IO::Socket::IP->new(Proto => 'udp',
        LocalHost => $host // '127.0.0.1', PeerHost => '127.0.0.1',
        PeerPort => $port) // die "UDP: $!\n";
}


sub options {
    my (%o) = @_;

    my $text = ImsSip->new(aor => 'sip:127.0.0.1', transport => 'UDP',
        host => '127.0.0.1:9;rport')->request('OPTIONS', %o);

    $text =~ s/^Via: .*?\r$/Via: $o{via}\r/m if $o{via};

    return $text;
}


sub answer {
    my ($c, $seconds) = @_;

    return undef unless IO::Select->new($c)->can_read($seconds // 5);

    $c->recv(my $text, 65536);

    return $text;
}


sub ask {
    my ($c, $text) = @_;

    $c->send($text);

    return answer($c) // 'nothing';
}


# it is dropped: what is sent after it is answered first

sub silent {
    my ($text, $name) = @_;

    $s->send($text);
    is(answer($s, 0.1), undef, $name);
}


sub count { return ims_status()->{counters}{$_[0]} }

###############################################################################
