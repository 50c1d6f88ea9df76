#!/usr/bin/perl

# Tests for purges at a core that is reached over UDP: they go by TCP, since
# they are sent once and only the connection that asked brings the proof.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsCore;
use ImsPurge;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(15);

ims_keys($t);
ims_purge_pool($t, size => 20);

$t->write_file_expand('nginx.conf', ims_conf($t, udp => 1, pool => 'web'));

my $core = ImsCore->new(port(8060), udp => 1);
$t->run();

###############################################################################

my $edge = '127.0.0.1:' . port(8070);

my $i = ims_ended($t);
my ($m, $link) = $core->request(10);
ok(ims_star($m), 'a purge');
isnt(ref $link, 'ImsCore::Datagrams', 'by TCP');
like(sip_header($m, 'Via'), qr{^SIP/2\.0/TCP \Q$edge\E;branch=z9hG4bK}, 'Via');
is(sip_header($m, 'Path'), "<sip:$edge;transport=tcp;lr;ob>", 'Path');
ims_gone($core, $link, $m);
ok(ims_rested($t, $i), '200: purged');
ok($core->silent(1.5), 'asked once');

# the answer by another way, with all that only the edge and the core know

$i = ims_ended($t);
($m, $link) = $core->request(10);
$core->send($core->datagrams(port(8070)), sip_reply($m, 200, 'OK',
    contact => ''));
ok(ims_wait_log($t,
    qr/not purged: the answer came by another connection/),
    'a datagram is no proof');
ims_gone($core, $link, $m);
ok(ims_wait(5, sub { counters()->{response_unmatched} == 1 }),
    'nor is anything after it');
cmp_ok(ims_rest($t, $i), '>', 500, 'it rests as long as it would');

# a core that takes no TCP: nothing is purged, and UDP is no worse for it

my $c = ImsClient->new(user => 'alice');
$core->deaf();
$core->close($_) for $core->links();

$i = ims_ended($t);
ok(ims_wait(10, sub { counters()->{purge_failed} == 2 }), 'failed');
cmp_ok(ims_rest($t, $i), '>', 500, 'it rests, too');

$c->send($c->{ua}->register());
($m, $link) = $core->request(5);
is(ref $link, 'ImsCore::Datagrams', 'a REGISTER by UDP');
$core->reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'is answered');

is(counters()->{purge_done}, 1, 'one purged');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

sub counters {
    return ims_status()->{counters};
}

###############################################################################
