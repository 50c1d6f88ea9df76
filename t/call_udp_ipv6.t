#!/usr/bin/perl

# Tests for UDP over IPv6 towards the core, for a listener on all addresses,
# and for OPTIONS to nodes that speak UDP.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Socket::IP;
use Time::HiRes qw/ time /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

plan(skip_all => 'no ::1')
    unless IO::Socket::IP->new(LocalHost => '::1', Listen => 1);

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(27);

ims_keys($t);
ims_pool($t);

# all addresses of IPv6, one of which is told, and 127.0.0.2 behind a wildcard

my $conf = ims_conf($t, workers => 3, udp => 1,
    advertise => '[::1]:%%PORT_8070%%',
    core => 'server [::1]:%%PORT_8060%% max_fails=1 fail_timeout=3s;'
        . 'server [::1]:%%PORT_8061%% backup;',
    http => 'ims_core_probe 2s; ims_listen *:%%PORT_8071_UDP%% udp'
        . ' advertise=127.0.0.2:%%PORT_8071_UDP%%;');
port(8071, udp => 1);
$conf =~ s/(ims_listen\s+)127\.0\.0\.1:8070 adv/$1\[::1]:%%PORT_8070%% adv/;
$conf =~ s/(ims_listen\s+)127\.0\.0\.1:8070 udp/$1\[::]:%%PORT_8070%% udp/;
$conf =~ s/(ims_core_allow\s+)127\.0\.0\.1;/$1::1 127.0.0.0\/30;/;

$t->write_file_expand('nginx.conf', $conf);

$ImsCall::HOST = '[::1]';
my $core = ImsCore->new(port(8060), host => '::1', udp => 1);
my $other = ImsCore->new(port(8061), host => '::1', udp => 1);
my (%asked, %from);

$t->run();

###############################################################################

my $edge = $core->datagrams(port(8070));
my $at = '\[::1\]:' . port(8070);
my $c = ImsClient->new(user => 'alice');

$c->send($c->{ua}->register());
my ($m, $link) = next_of('REGISTER');
my @via = sip_headers($m, 'Via');
like($via[0], qr{^SIP/2\.0/UDP $at;rport;branch=}, 'Via');
like(sip_header($m, 'Path'), qr/\@$at;transport=udp;/, 'Path');
is(source($link), '::1 ' . port(8070), 'from where Via says');
my $first = $m->{text};
($m, $link) = next_of('REGISTER');
is($m->{text}, $first, 'lost: again');
$core->reply($link, $m, 200, 'OK',
    extra => ['Service-Route: ' . ImsCall::service_route()]);
is($c->answer()->{status}, 200, 'registered');
($c->{path}) = sip_header($m, 'Path') =~ /<([^>]+)>/;

$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@[2001:db8::9]'));
($m, $link) = next_of('MESSAGE');
is($m->{ruri}, 'sip:bob@[2001:db8::9]', 'message');
$core->reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'answered');

$core->send($edge, ImsCall::core_request($c, 'MESSAGE', body => 'in', via => [
    'SIP/2.0/UDP [::1]:' . port(8060) . ';rport;branch=z9hG4bK6' ]));
$m = $c->answer();
is($m->{body}, 'in', 'message of the core');
$c->send(sip_reply($m, 200, 'OK', to_tag => 'me'));
($m) = next_of(200);
like(sip_header($m, 'Via'), qr/;rport=${\port(8060)}\b/, 'its answer: rport');
like(sip_header($m, 'Via'), qr/;received=::1\b/, 'received');

$core->{answers} = 'OPTIONS';
my $d = ImsCall->calls($c, $core, until => 'invite');
$core->{answers} = undef;
is($d->{invite}{method}, 'INVITE', 'INVITE');
like($d->{core_route}, qr/\@$at;transport=udp;lr>/, 'Record-Route');
$core->reply($d->{link}, $d->{invite}, 603, 'Decline', to_tag => 'far');
is((next_of('ACK'))[0]{method}, 'ACK', 'refused, ACK');
is($c->answer()->{status}, 603, 'told');

# from what is bound to all addresses: as it is advertised

my $four = IO::Socket::IP->new(Proto => 'udp', LocalHost => '127.0.0.1')
    // die "UDP: $!\n";
my $to = Socket::pack_sockaddr_in(port(8071, udp => 1),
    Socket::inet_aton('127.0.0.2'));
send $four, ImsSip->new(aor => 'sip:127.0.0.2', transport => 'UDP',
    host => '127.0.0.1:9;rport')->request('OPTIONS'), 0, $to;
my $from = recv_from($four);
is($from, '127.0.0.2 ' . port(8071, udp => 1), 'IPv4: from 127.0.0.2');

###############################################################################

# OPTIONS: each worker has an answer, whichever of them reads it

is(probed(6), 1, 'asked by all workers, many times');
is(scalar(keys %from), 3, 'by three');
is(ims_count_log($t, qr/does not answer OPTIONS/), 0, 'all answers arrive');
my $resent = ims_status()->{counters}{udp_resent};

# one lost of each: asked again

%asked = ();
is(probed(6, lose => 1), 1, 'asked again when it was lost');
is(ims_count_log($t, qr/does not answer OPTIONS/), 0, 'that is no failure');
cmp_ok(ims_status()->{counters}{udp_resent}, '>', $resent, 'counted');
is(ims_status()->{counters}{response_unmatched}, 0, 'all answers are known');

# it is gone: no REGISTER goes there until it answers

ok(ims_wait(8, sub {
    drain();
    ims_count_log($t, qr/core \[::1\]:\d+ does not answer OPTIONS/) >= 3;
}), 'silence is noticed');
is(registered(), 'other', 'REGISTER goes to the other one');
is(probed(8), 1, 'answered again');
ok(ims_wait_log($t, qr/answers OPTIONS again/), 'noticed');
is(registered(), 'first', 'and used');

###############################################################################

# the next message of that kind; OPTIONS are answered

sub next_of {
    my ($what) = @_;

    my $end = time() + 8;

    while (time() < $end) {
        others();
        my ($m, $link) = $core->request(0.2) or next;
        return ($m, $link) if ($m->{status} // $m->{method}) eq $what;
        $core->reply($link, $m, 200, 'OK')
            if ($m->{method} // '') eq 'OPTIONS';
    }

    return ({ method => 'none', status => 'none', text => '', body => '',
              lines => [] }, undef);
}


# a new client registers: where

sub registered {
    my $c = ImsClient->new();

    $c->send($c->{ua}->register());

    for (1 .. 50) {
        for ([$core, 'first'], [$other, 'other']) {
            my ($node, $name) = @$_;
            my ($m, $link) = $node->request(0.1) or next;

            $node->reply($link, $m, 200, 'OK')
                if $m->{method} eq 'REGISTER' || $name eq 'other';
            return $name if $m->{method} eq 'REGISTER';
        }
    }

    return 'nowhere';
}


# so many seconds of answering; lose: the first copy of each

sub probed {
    my ($seconds, %o) = @_;

    my $end = time() + $seconds;
    my $n = 0;

    while (time() < $end) {
        others();
        my ($m, $link) = $core->request(0.1) or next;
        next unless ($m->{method} // '') eq 'OPTIONS';

        my ($id) = sip_header($m, 'Via') =~ /branch=z9hG4bKprobe(\w{16})/;
        $n++;
        $from{$id // 'none'}++;
        next if $o{lose} && !$asked{$m->{text}}++;
        $core->reply($link, $m, 200, 'OK');
    }

    return $n >= 6 ? 1 : $n;
}


sub drain {
    1 while $core->request(0.05);
    others();
}


sub others {
    while (my ($m, $link) = $other->request(0.01)) {
        $other->reply($link, $m, 200, 'OK');
    }
}


sub source {
    my ($link) = @_;

    my ($error, $host, $port) = Socket::getnameinfo($link->{to},
        Socket::NI_NUMERICHOST() | Socket::NI_NUMERICSERV());

    return $error || "$host $port";
}


sub recv_from {
    my ($s) = @_;

    return 'nothing' unless IO::Select->new($s)->can_read(5);

    my $from = recv $s, my $text, 65536, 0;

    return source({ to => $from });
}

###############################################################################
