#!/usr/bin/perl

# Tests for a client that has to live with what happens: leases renewed and
# revoked, the pool manager killed, nginx reloaded, the core gone for a
# while; and its sign-out.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsNode;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('kamailio');

node_ready($t)->plan(17);

my $port = port(8443);
my $dir = $t->testdir();

ims_keys($t);
ims_cert($t);

my $pool = ims_pool($t, args => [qw/ --ttl 16 --min-expires 4 /]);

ims_core($t, defines => ['MIN_EXPIRES=4']);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2,
    min_expires => '4s'));
$t->run();

$ENV{NODE_EXTRA_CA_CERTS} = "$dir/localhost.crt";

my $client = ims_spawn($t, 'client.log', 'node', "$Ims::ROOT/t/js/life.mjs",
    '--base', "https://localhost:$port");

###############################################################################

my $from = 0;

my ($impu, $lease) = seen($t, qr/^identity (\S+) (\S+)$/m, 60);
ok($impu, 'identity');
ok(seen($t, qr/^registered$/m), 'registered');

ok(seen($t, qr/^renewed \Q$lease\E$/m, 25), 'renewed, the same lease');

# an administrator ends the lease: its user may come back

my ($status, $out) = ims_poolctl($t, 'revoke', 'lease', $lease);
is($status, 0, 'revoked') or diag($out);

ok(seen($t, qr/^disconnected 1008$/m), 'closed at once');

my ($next) = seen($t, qr/^renewed (\S+)$/m);
ok($next, 'renewed');
isnt($next, $lease, 'another lease');
ok(seen($t, qr/^registered$/m), 'registered again');

# the pool manager is killed when a renewal is due, and comes back

ims_kill($pool, 'KILL');
ok(seen($t, qr/^retry 503$/m, 25), 'no renewal without the pool manager');

ims_pool_start($t);
ok(seen($t, qr/^renewed \Q$next\E$/m, 25), 'renewed after its return');

# a reload does not touch the flow

$t->reload();
ok(ims_wait_log($t, qr/gracefully shutting down/), 'reloaded');
ok(seen($t, qr/^renewed \Q$next\E$/m, 25), 'renewed after a reload');

# the connection is lost with nginx's workers

kill 'KILL', workers($t);
ok(seen($t, qr/^disconnected 1006$/m), 'connection lost');
ok(seen($t, qr/^registered$/m, 20), 'registered after that');

# sign-out

is(scalar(keys %{ims_core_bindings($t)}), 1, 'bound at the core');

kill 'TERM', $client;
ok(seen($t, qr/^closed$/m), 'signed out');

is_deeply(ims_core_bindings($t), {}, 'nothing left at the core');

# workers that were killed are the test's own doing

$t->todo_alerts();

###############################################################################

# what the client told of since the last one that was looked for

sub seen {
    my ($t, $pattern, $seconds) = @_;

    my @found;

    ims_wait($seconds // 20, sub {
        my $text = substr $t->read_file('client.log'), $from;
        return 0 unless $text =~ $pattern;
        $from += $+[0];
        @found = defined $1 ? ($1, $2) : (1);
    });

    diag(substr $t->read_file('client.log'), $from) unless @found;

    return wantarray ? @found : $found[0];
}


sub workers {
    my ($t) = @_;

    my ($master) = $t->read_file('nginx.pid') =~ /(\d+)/;

    return split ' ', `ps -o pid= --ppid $master`;
}

###############################################################################
