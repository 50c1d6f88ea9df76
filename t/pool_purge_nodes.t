#!/usr/bin/perl

# Tests for which nodes of the core are asked for a purge: all that may have
# registered the identity, by this configuration or by one before it.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsPurge;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(36);
my $dir = $t->testdir();

ims_keys($t);
ims_purge_pool($t, size => 20);

# pools of which this edge knows nothing, or nothing by name; and one whose
# leases are so short that what another core has of them is soon over

for (['foreign', 600], ['other', 600], ['short', 5]) {
    ims_poolctl($t, 'pool', 'create', $_->[0], 'ims.example', '--ttl',
        $_->[1], '--ttl-max', $_->[1], qw/ --delay 1 --margin 1 --purge on
        --min-expires 1 /);
    ims_poolctl($t, 'import', $_->[0], '--range',
        "sip:$_->[0]-[01-10]\@ims.example");
}

# web is registered at the group of the issuer that names it, and may be at
# that of one which names domains alone; never at that of another pool

my $issuers = <<"END";
    ims_issuer site {
        iss     https://localhost;
        aud     ims.example;
        alg     ES256;
        key     k1 $dir/site.pub.pem $dir/site.key.pem;
        pool    web short;
        origin  http://localhost;
    }

    ims_issuer domains {
        iss     https://domains;
        aud     ims.example;
        alg     ES256;
        key     k1 $dir/site.pub.pem;
        domain  ims.example;
        origin  http://localhost;
    }

    ims_issuer other {
        iss     https://other;
        aud     ims.example;
        alg     ES256;
        key     k1 $dir/site.pub.pem;
        pool    other;
        origin  http://localhost;
    }
END

my @pass = map { <<"END" } ['domains', 'core2'], ['other', 'core3'];
        location = /ims/$_->[0] {
            ims_pass           $_->[1];
            ims_accept_issuer  $_->[0];
        }
END

conf(locations => join('', @pass), http => <<'END');
    upstream core2 {
        server  127.0.0.1:8061;
        server  127.0.0.1:8062 backup;
        server  127.0.0.1:8060;
    }

    upstream core3 {
        server  127.0.0.1:8063;
    }
END
$t->run();

###############################################################################

my @core = map { ImsCore->new(port(8060 + $_)) } 0 .. 3;
my ($i, @got, $m, $link);

$i = ims_ended($t);
@got = map { [$core[$_]->request(10)] } 0 .. 2;
is(scalar(grep { ims_star($_->[0]) } @got), 3, 'at each node of both groups');
is(scalar(grep { sip_header($_->[0], 'To') eq "<$i->{impu}[0]>" } @got), 3,
    'the identity');
my %ids = map { sip_header($_->[0], 'Call-ID') => 1 } @got;
is(scalar keys %ids, 3, 'each is its own request');
ok($core[3]->silent(1.5), 'not at that of another pool');
ok($core[0]->silent(0.1), 'a node of two groups once');

ims_gone($core[$_], @{$got[$_]}[1, 0]) for 0, 1;
sleep 0.5;
cmp_ok(ims_rest($t, $i), '>', 500, 'two of three are not enough');
ims_gone($core[2], @{$got[2]}[1, 0]);
ok(ims_rested($t, $i), 'all are');

# one node that does not answer, and one that refuses

$i = ims_ended($t);
@got = map { [$core[$_]->request(10)] } 0 .. 2;
ims_gone($core[$_], @{$got[$_]}[1, 0]) for 0, 1;
$core[2]->reply(@{$got[2]}[1, 0], 500, 'Server Error');
ok(ims_wait_log($t, qr/\Q$i->{lease}\E was not purged: the core refuses/),
    'one refuses');
ok($core[$_]->silent(0.5), "nobody is asked in its place: $_") for 0 .. 2;
cmp_ok(ims_rest($t, $i), '>', 500, 'no proof');

# pools that no location here takes tokens for

my $foreign = ims_ended($t, pool => 'foreign');
my $other = ims_ended($t, pool => 'other');
($m, $link) = $core[3]->request(10);
like(sip_header($m, 'To'), qr/other-/, 'another pool at its own');

# the issuer that names domains alone may speak for that pool, too

@got = map { [$core[$_]->request(10)] } 0 .. 2;
is(scalar(grep { sip_header($_->[0], 'To') =~ /other-/ } @got), 3,
    'and where domains are');
ims_gone($core[3], $link, $m);
ims_gone($core[$_], @{$got[$_]}[1, 0]) for 0 .. 2;
ok(ims_rested($t, $other), 'purged');
ok($core[0]->silent(2), 'one that this edge does not know');
my $given = (ims_poolctl($t, '--json', 'purge', 'next', 'foreign'))[1];
is($given->[0]{lease}, $foreign->{lease}, 'is left to others');

# off

conf(http => 'ims_purge off;');
my $was = counters();
reloaded();
$i = ims_ended($t);
ok($core[$_]->silent(1.5), "off: $_") for 0, 1;
is(counters()->{purge_begun}, $was->{purge_begun}, 'none begun');

# other nodes: the ones before may have bindings, for as long as any lease

conf();
reloaded();
ok(ims_wait_log($t,
    qr/\Q$i->{lease}\E is not purged: another core may have registered it/),
    'other nodes');
ok($core[0]->silent(1), 'nothing is asked');
cmp_ok(ims_rest($t, $i), '>', 500, 'it rests');
is(counters()->{purge_skipped} - $was->{purge_skipped}, 1, 'counted');

# that is over sooner where leases are short: 5 s, and D

sleep 7;
$i = ims_ended($t, pool => 'short');
($m, $link) = $core[0]->request(10);
ok(ims_star($m), 'after the longest lease');
ims_gone($core[0], $link, $m);
ok(ims_rested($t, $i), 'purged');

# it is remembered over a restart, and over a reload with the same

reloaded();
$i = ims_ended($t);
ok(ims_wait_log($t,
    qr/\Q$i->{lease}\E is not purged: another core may have registered it/),
    'a reload makes it no better');

$t->stop();
$t->run();
$i = ims_ended($t);
ok(ims_wait_log($t,
    qr/\Q$i->{lease}\E is not purged: another core may have registered it/),
    'nor does a restart');

# a file that cannot be understood is like other nodes; without any there was
# never another

$t->stop();
$t->write_file('state/nodes', 'what is this');
$t->run();
$i = ims_ended($t);
ok(ims_wait_log($t,
    qr/\Q$i->{lease}\E is not purged: another core may have registered it/),
    'nor does what is not understood');

$t->stop();
unlink "$dir/state/nodes";
$t->run();
$i = ims_ended($t);
($m, $link) = $core[0]->request(10);
ok(ims_star($m), 'a new edge');
ims_gone($core[0], $link, $m);
ok(ims_rested($t, $i), 'purged');

# a node that was added and taken away while an old worker lives: its flow may
# go on there

my $c = ImsClient->new(user => 'old');
$c->registered($core[0]);
conf(core => 'server 127.0.0.1:8061;');
reloaded(1);
$i = ims_ended($t, pool => 'short');
ok(ims_wait_log($t,
    qr/\Q$i->{lease}\E is not purged: another core may have registered it/),
    'an old worker with other nodes');
sleep 7;
$i = ims_ended($t, pool => 'short');
ok(ims_wait_log($t,
    qr/\Q$i->{lease}\E is not purged: another core may have registered it/),
    'as long as it lives');
my $exits = exits();
$c->{ws}->close();
ok(ims_wait_log($t, qr/exited with code 0/, count => $exits + 1,
    seconds => 20), 'it is gone');
sleep 7;
$i = ims_ended($t, pool => 'short');
($m, $link) = $core[1]->request(10);
ok(ims_star($m), 'and what it may have registered, too');
ims_gone($core[1], $link, $m);
ok(ims_rested($t, $i), 'purged');

###############################################################################

sub counters { return ims_status()->{counters} }


sub conf {
    $t->write_file_expand('nginx.conf', ims_conf($t, issuers => $issuers,
        min_expires => '1s', @_));
}


sub exits { return ims_count_log($t, qr/exited with code 0/) }


# workers of the configuration as it is now; $stay: the old one stays

sub reloaded {
    my ($stay) = @_;

    my $n = exits();
    my $started = ims_count_log($t, qr/start worker process \d/);

    $t->reload();
    ims_wait_log($t, qr/start worker process \d/, count => $started + 1);
    ims_wait_log($t, qr/exited with code 0/, count => $n + 1, seconds => 15)
        unless $stay;
}

###############################################################################
