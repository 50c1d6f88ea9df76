#!/usr/bin/perl

# Tests for snapshots of the pool's database: the looks of one turn of a
# worker's event loop share one, and none is kept while the worker waits.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

use constant FLOWS => 6;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(19);

ims_keys($t);
ims_pool($t, size => 100);

# nothing is looked at but what the test brings about

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 2, lease_check => '60s', grace => '60s',
             http => 'ims_ping_interval 300s;'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));

is(held(), 0, 'workers that have started hold no snapshot');

my @flows = map { ImsClient->new() } 1 .. FLOWS;
is(statuses(), join(' ', (200) x FLOWS), 'registered');
is(held(), 0, 'nor after registrations');

# two messages in one read: the second is judged in the turn of the first

my $one = $flows[0];
$one->{ws}->write(join '', map { $one->{ws}->frame(
    $one->{ua}->request('MESSAGE', to => 'sip:bob@ims.example')) } 1, 2);

for my $n (1, 2) {
    my ($m, $link) = $core->request();
    is($m && $m->{method}, 'MESSAGE', "message $n of a read");
    $core->reply($link, $m, 200, 'OK') if $m;
    is(($one->status_answer() // {})->{status}, 200, 'and its answer');
}

is(held(), 0, 'nor after two in one turn');

# a turn's snapshot does not hide a lease that ends

is((ims_poolctl($t, 'revoke', 'lease', $flows[1]{id}{lease}))[0], 0,
    'revoked');
$flows[1]->send($flows[1]{ua}->register());
is(($flows[1]{ws}->closed(3))[0], 1008, 'is seen at the next message');
my ($m, $link) = $core->request();
is($m && sip_header($m, 'Contact'),
    '<' . $flows[1]{ua}->contact() . '>;expires=0', 'and taken back');
$core->reply($link, $m, 200, 'OK', contact => '') if $m;
is(held(), 0, 'nor after a refusal');
splice @flows, 1, 1;

# workers that leave, with flows

$t->reload();
ok(ims_wait(8, sub { ims_count_log($t, qr/gracefully shutting down/) >= 2 }),
    'old workers are leaving');
is(held(), 0, 'nor do workers that leave');
is(statuses(), join(' ', (200) x (FLOWS - 1)), 'refreshed there');
is(held(), 0, 'nor after they were asked');

is(statuses(expires => 0), join(' ', (200) x (FLOWS - 1)), 'de-registered');
$_->{ws}->close() for @flows;
is(held(), 0, 'nor at the end');

is(ims_count_log($t, qr/\[(?:alert|emerg)\]/), 0, 'no alert');

###############################################################################

# what registers of all flows are answered

sub statuses {
    my (%over) = @_;

    return join ' ', map {
        (($_->registered($core, %over))[2] // {})->{status} // 0
    } @flows;
}


# snapshots that are held now, but for the check's own

sub held {
    my $n;

    # what was answered just now may be in the same turn still
    ims_wait(2, sub {
        $n = (ims_poolctl($t, 'check', '--json'))[1]{readers};
        defined $n && $n == 0;
    });

    return $n;
}

###############################################################################
