#!/usr/bin/perl

# Tests for names of core nodes in Service-Route: listed ones at a fixed
# address, by the DNS and by SRV; never one that a message brings along.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use IO::Socket::INET;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(13);

ims_keys($t);
ims_pool($t, size => 60);

my $dns = port(8980, udp => 1);
my $node = port(8061);

$t->run_daemon(\&dns_daemon, $t, $dns, $node);
$t->waitforfile($t->testdir() . '/dns.ready');

$t->write_file_expand('nginx.conf', ims_conf($t, http => <<"END"));
    resolver       127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    ims_core_host  fixed.ims.example    127.0.0.1:8061;
    ims_core_host  by-dns.ims.example   resolve port=%%PORT_8061%%;
    ims_core_host  by-srv.ims.example   resolve service=_sip._tcp;
    ims_core_host  outside.ims.example  resolve port=%%PORT_8061%%;
    ims_core_host  nowhere.ims.example  resolve;
END
$t->run();

###############################################################################

my $registrar = ImsCore->new(port(8060));
my $other = ImsCore->new($node);

is(route('fixed.ims.example'), 'other', 'fixed address');
is(route('FIXED.ims.example'), 'other', 'in any case of letters');
is(route('127.0.0.1:' . $node), 'other', 'address of the core');
is(route('192.0.2.1'), 'registrar', 'address that is not the core\'s');
is(route('unlisted.ims.example'), 'registrar', 'name that is not listed');

ok(ims_wait(10, sub { route('by-dns.ims.example') eq 'other' }), 'by the DNS');
ok(ims_wait(10, sub { route('by-srv.ims.example') eq 'other' }), 'by SRV');

is(route('outside.ims.example'), 'registrar', 'outside of ims_core_allow');
ok(ims_wait_log($t, qr/"outside.ims.example" is not within ims_core_allow/),
    'told of');

is(route('nowhere.ims.example'), 'registrar', 'name that the DNS denies');
ok(ims_wait_log($t, qr/"nowhere.ims.example" could not be resolved/),
    'told of, too');

unlike($t->read_file('dns.log'), qr/unlisted/, 'nothing else was asked for');

# a resolver is needed

like(ims_conf_error($t, ims_conf($t,
    http => 'ims_core_host a.example resolve;')),
    qr/\[emerg\].*"ims_core_host a.example resolve" needs a "resolver"/,
    'without a resolver');

###############################################################################

# which core gets a message of a user with that Service-Route

sub route {
    my ($host) = @_;

    my $c = ImsClient->new();

    $c->send($c->{ua}->register());
    my ($m, $link) = $registrar->request();
    $registrar->reply($link, $m, 200, 'OK',
                      extra => ["Service-Route: <sip:orig\@$host;lr>"]);
    $c->answer();

    $c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example'));

    my $which = 'nobody';

    for (1 .. 50) {
        if (($m, $link) = $other->request(0.05)) {
            $other->reply($link, $m, 200, 'OK');
            $which = 'other';
            last;
        }

        if (($m, $link) = $registrar->request(0.05)) {
            $registrar->reply($link, $m, 200, 'OK');
            $which = 'registrar';
            last;
        }
    }

    $c->answer();
    $c->{ws}->close();

    return $which;
}

###############################################################################

# A and SRV, as much of RFC 1035 and 2782 as a test needs

sub dns_daemon {
    my ($t, $port, $node) = @_;

    my $dir = $t->testdir();
    my $s = IO::Socket::INET->new(Proto => 'udp',
                                  LocalAddr => "127.0.0.1:$port") or die;

    open my $log, '>', "$dir/dns.log" or die;
    $log->autoflush(1);
    open my $ready, '>', "$dir/dns.ready" or die;
    close $ready;

    my %a = ('by-dns.ims.example' => '127.0.0.1',
             'node.ims.example' => '127.0.0.1',
             'outside.ims.example' => '127.0.0.9');

    while (defined $s->recv(my $query, 512)) {
        my ($id) = unpack 'n', $query;
        my ($at, @labels) = (12);

        while (my $n = ord substr $query, $at, 1) {
            push @labels, substr $query, $at + 1, $n;
            $at += $n + 1;
        }

        my $name = lc join '.', @labels;
        my ($type) = unpack 'n', substr $query, $at + 1, 2;
        my $question = substr $query, 12, $at + 5 - 12;
        my $answer = '';

        print $log "$name $type\n";

        if ($type == 1 && $a{$name}) {
            $answer = record(1, join '', map chr, split /\./, $a{$name});

        } elsif ($type == 33 && $name eq '_sip._tcp.by-srv.ims.example') {
            $answer = record(33, pack('n3', 10, 1, $node)
                . join('', map { chr(length) . $_ } qw/ node ims example /)
                . "\0");
        }

        $s->send(pack('n6', $id, $answer ? 0x8180 : 0x8183, 1,
                      $answer ? 1 : 0, 0, 0) . $question . $answer);
    }
}


sub record {
    my ($type, $data) = @_;

    return pack('n3Nn', 0xc00c, $type, 1, 60, length $data) . $data;
}

###############################################################################
