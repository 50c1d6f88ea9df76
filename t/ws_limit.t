#!/usr/bin/perl

# Tests for the number of WebSockets of a worker and of an address, and for
# the address of a client behind a proxy (realip), which its session keeps.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http realip/)->has_daemon('openssl')
    ->plan(15);

ims_keys($t);
ims_pool($t);

$t->write_file_expand('nginx.conf', ims_conf($t,
    http => 'ims_worker_sessions 4;',
    server => 'set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;',
    ws => 'ims_address_sessions 2;'));
$t->run();

###############################################################################

my ($a1, $a2) = (opened('192.0.2.1'), opened('192.0.2.1'));
is($a2->{status}, 101, 'two of one address');
is(opened('192.0.2.1')->{status}, 503, 'not a third');

my $b = opened('192.0.2.2');
is($b->{status}, 101, 'of another address');

my $six = opened('2001:db8::1');
is($six->{status}, 101, 'of an IPv6 address');

is(opened('192.0.2.3')->{status}, 503, 'a worker full');
is(ims_status()->{counters}{handshake_limit}, 2, 'counted');
ok(ims_wait_log($t, qr/refused with 503: too many WebSockets/), 'logged');

# only the living are counted

$a1->drop();
$six->close();

my $again;
ok(ims_wait(5, sub { ($again = opened('192.0.2.1'))->{status} == 101 }),
    'room again after a drop');

my $net;
ok(ims_wait(5, sub { ($net = opened('2001:db8::2'))->{status} == 101 }),
    'and after a close');
$_->drop() for $a2, $b, $again, $net;

# the client's address goes with the REGISTER

my $core = ImsCore->new(port(8060));
my $c = ImsClient->new(user => 'alice', ws => undef);

ok(ims_wait(5, sub {
    $c->connect(headers => ['X-Forwarded-For: 192.0.2.77'])->{status} == 101;
}), 'behind a proxy');

my ($m, $link, $answer) = $c->registered($core);

is($answer->{status}, 200, 'registered');
like((sip_headers($m, 'Via'))[1], qr/;received=192\.0\.2\.77/, 'received');
like((sip_headers($answer, 'Via'))[0], qr/;received=192\.0\.2\.77/,
    'as the client is told');
ok(ims_wait_log($t, qr/registered, lease.*client: 192\.0\.2\.77/),
    'and as it is logged');

# a second time, over the memory that the request had

($m, $link, $answer) = $c->registered($core);
like((sip_headers($m, 'Via'))[1], qr/;received=192\.0\.2\.77/, 'kept');

###############################################################################

sub opened {
    my ($address) = @_;

    return ImsWs->new(port => port(8080), origin => 'http://localhost',
                      headers => ["X-Forwarded-For: $address"]);
}

###############################################################################
