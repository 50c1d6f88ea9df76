#!/usr/bin/perl

# Tests for how long a REGISTER over UDP is sent again: never beyond half of
# the pool's D after the look at the lease, nor beyond the lease (POOL.md 1 c).

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(12);

ims_keys($t);
ims_pool($t, args => [qw/ --delay 6 /]);

$t->write_file_expand('nginx.conf', ims_conf($t, udp => 1, workers => 2,
    grace => '1s'));

my $core = ImsCore->new(port(8060), udp => 1);
$t->run();

###############################################################################

# D is 6 s: after 3 s no copy is sent (3.5 s would be the next)

my $c = ImsClient->new(user => 'alice');
my ($since, @at) = time();
my ($text, %texts);

$c->send($c->{ua}->register());
while (time() - $since < 5) {
    my ($m) = $core->request(1) or next;
    push @at, time() - $since;
    $texts{$m->{text}}++;
}
is(scalar @at, 3, 'three copies');
is(scalar keys %texts, 1, 'all the same');
cmp_ok($at[-1], '<', 3, 'none after D/2');

# its answer may come later, and is taken

my $alice = $c;
$c = ImsClient->new(user => 'bob');
$c->send($c->{ua}->register());
my ($m, $link) = $core->request(5);
while (my ($again) = $core->request(1.9)) { $m = $again }
$core->reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'a late answer is taken');

# a lease that was ended: the answer to a copy binds nothing

my $bob = $c;
$c = ImsClient->new(user => 'carol');
$c->send($c->{ua}->register());
($m, $link) = $core->request(5);
is($m->{method}, 'REGISTER', 'first copy');
is((ims_poolctl($t, 'revoke', 'lease', $c->{id}{lease}))[0], 0, 'revoked');
$core->reply($link, $m, 200, 'OK');
my $answer = $c->answer();
is($answer ? $answer->{status} : 403, 403, 'not registered');
is(($c->{ws}->closed(5))[0], 1008, 'closed');

my $dereg;
for (1 .. 50) {
    my ($r, $to) = $core->request(0.2) or next;
    if (sip_header($r, 'Contact') =~ /;expires=0/) {
        $core->reply($to, $r, 200, 'OK');
        $dereg = $r, last if sip_header($r, 'Contact') =~ /\Q$c->{ua}{user}\E/;
    }
}
ok($dereg, 'and taken back at the core');
like(sip_header($dereg, 'Via'), qr{^SIP/2.0/UDP }, 'by UDP');

is(ims_status()->{counters}{core_late}, 0, 'nothing was late');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################
