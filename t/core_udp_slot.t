#!/usr/bin/perl

# Tests for requests of the core over UDP whose flow token names a slot that the
# table does not have any more, since it was made anew, smaller.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(6);

ims_keys($t);
ims_pool($t);

my $core = ImsCore->new(port(8060), udp => 1);

$t->write_file_expand('nginx.conf', ims_conf($t, udp => 1, flows => 262144));
$t->run();

###############################################################################

my $edge = $core->datagrams(port(8070));
my $c = ImsClient->new(user => 'alice');
ok(ImsCall::registered($c, $core), 'registered');

$c->{ws}->drop();
$t->stop();
$t->write_file_expand('nginx.conf', ims_conf($t, udp => 1, flows => 64));
$t->run();

cmp_ok(ims_status()->{flow_slots}, '<', 1024, 'a smaller table');
1 while $core->request(0.1);

for my $method (qw/ ACK MESSAGE INVITE CANCEL /) {
    $core->send($edge, ImsCall::core_request($c, $method, to_tag => undef,
        via => [ 'SIP/2.0/UDP 127.0.0.1:' . port(8060)
                 . ";branch=z9hG4bK$method" ]));

    my ($m) = $core->request($method eq 'ACK' ? 0.5 : 5);
    is($m ? $m->{status} : 'nothing', $method eq 'ACK' ? 'nothing' : 430,
        "$method for a slot that there was");
}

###############################################################################
