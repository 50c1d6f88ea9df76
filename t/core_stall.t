#!/usr/bin/perl

# Tests for a core that takes connections and reads nothing: what waits is
# bounded, what is too late never leaves, and the link is given up.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Socket::INET;
use Socket qw/ SOL_SOCKET SO_RCVBUF /;
use Time::HiRes qw/ sleep time /;

use Ims;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(9);

ims_keys($t);
ims_pool($t, size => 400);

$t->write_file_expand('nginx.conf', ims_conf($t,
    http => 'ims_link_queue 256k;'));
$t->run();

###############################################################################

# small buffers here; the edge's own may grow to some megabytes

my $deaf = IO::Socket::INET->new(Proto => 'tcp', Listen => 5,
    LocalAddr => '127.0.0.1:' . port(8060), ReuseAddr => 1) or die "$!\n";
setsockopt $deaf, SOL_SOCKET, SO_RCVBUF, 4096;

my (@ws, %status);
my $users = 0;
my $start = time();

# until the queue is full, in both places

for my $try (1 .. 300) {
    my ($ws, $ua) = client();
    $ws->send($ua->register(extra => ['X-Pad: ' . 'x' x 40000]));
    push @ws, $ws;

    last if counters()->{core_link_full} >= 3;
}

my $full = grep { (sip_parse($_->recv(0.1) // '') // { status => 0 })->{status}
                  == 503 } @ws[-3 .. -1];
is($full, 3, 'queue full: 503');
is(counters()->{core_link_full}, 3, 'counted');
diag(scalar @ws . ' requests of 40 KB');

# two seconds later what had not begun to leave never will

ok(ims_wait(6, sub { counters()->{core_late} > 0 }), 'late ones dropped');
cmp_ok(counters()->{core_late}, '>=', 3, 'all that waited');

# the link is given up, and those under way are told

ok(ims_wait(15, sub { counters()->{core_link_broken} > 0 }), 'link given up');
cmp_ok(time() - $start, '>', 8, 'not in haste');

ok(ims_wait_log($t, qr/core takes nothing|Connection timed out.*from core/),
    'said so');

# and the edge goes on

close $deaf;
my $core = ImsCore->new(port(8060));
my ($ws, $ua) = client();
$ws->send($ua->register());
my ($m, $l);
while (($m, $l) = $core->request(5)) {
    last if sip_header($m, 'Call-ID') eq $ua->{call_id};
}
ok($m, 'sent to a core that reads');
$core->reply($l, $m, 200, 'OK') if $m;
is((sip_parse($ws->recv(5) // '') // { status => 0 })->{status}, 200,
    'and answered');

# records that nobody answers would hold a worker that leaves in peace

my $master = $t->read_file('nginx.pid') + 0;
kill 'TERM', $master;
ims_left($t, $master);

###############################################################################

sub client {
    my $name = 'user' . ++$users;
    my $id = ims_identity(user => $name)->{json} or die "no identity\n";

    my $c = ImsWs->new(port => port(8080), origin => 'http://localhost');
    my $sip = ImsSip->new(aor => $id->{impu}, token => $id->{token});

    return ($c, $sip);
}


sub counters { return ims_status()->{counters} }

###############################################################################
